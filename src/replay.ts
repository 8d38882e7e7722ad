import type { Delivery } from './bus/delivery.js';
import { type Refusal, refusalOf, type Standing } from './domain/admission.js';
import type { Command } from './domain/command.js';
import { type DesiredState, NOTHING_DESIRED } from './domain/desired.js';
import { fold } from './domain/fold.js';
import type { Reading } from './reading.js';

export interface ReplayState extends Standing {
  readonly desired: DesiredState | null;
}

/** What a backlog comes to: one desired state, and for each delivery what it contributed. */
export interface Replay {
  readonly desired: DesiredState | null;
  readonly generation: number | undefined;
  readonly awaitingDeploy: string | undefined;
  readonly entries: readonly ReplayEntry[];
  /** Index of the entry that stands for all folded ones; undefined when none was. */
  readonly representative: number | undefined;
}

export type ReplayEntry = { readonly delivery: Delivery; readonly gen: number | undefined } & (
  | { readonly what: 'folded'; readonly command: Command }
  | { readonly what: 'refused'; readonly refusal: Refusal }
  | { readonly what: 'rejected'; readonly error: unknown }
);

/**
 * Folds a backlog of commands into the one desired state in which applying them one by one would end, refusing those that would
 * have been refused.
 *
 * @param accept throws for a desired state that cannot be; the command that would lead to it is rejected
 */
export function replay(
  readings: readonly { readonly delivery: Delivery; readonly reading: Reading }[],
  start: ReplayState,
  serverNow: number,
  accept: (desired: DesiredState) => void,
): Replay {
  let { desired, generation, awaitingDeploy } = start;
  let representative: number | undefined;
  const entries = readings.map(({ delivery, reading }, index): ReplayEntry => {
    const gen = reading.envelope.gen;
    if (!reading.ok) return { delivery, gen, what: 'rejected', error: reading.error };
    const { command, envelope } = reading;
    const refusal = refusalOf(command.verb, envelope, { generation, awaitingDeploy }, serverNow);
    if (refusal !== undefined) return { delivery, gen, what: 'refused', refusal };
    try {
      const next = fold(desired ?? NOTHING_DESIRED, command);
      accept(next);
      desired = next;
    } catch (error) {
      return { delivery, gen, what: 'rejected', error };
    }
    generation = gen ?? generation;
    if (command.verb === 'deploy') awaitingDeploy = undefined;
    representative = index;
    return { delivery, gen, what: 'folded', command };
  });
  return { desired, generation, awaitingDeploy, entries, representative };
}
