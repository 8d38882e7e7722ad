import { type Delivery, type DeliveryHead, headOf } from '../bus/delivery.js';
import { type AdmissionRefusal, type AdmissionState, refusalOf } from '../domain/admission.js';
import type { Command } from '../domain/command.js';
import { type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import { type Fault, faultsOf } from '../errors.js';
import type { Reading } from './reading.js';

export interface ReplayState extends AdmissionState {
  readonly desired: DesiredState | null;
}

/** The result of folding a backlog: one desired state, and what each delivery contributed. */
export interface Replay {
  readonly desired: DesiredState | null;
  readonly generation: number | undefined;
  readonly awaitingDeploy: string | undefined;
  readonly entries: readonly ReplayEntry[];
  /** The last folded command, which stands for all folded ones; undefined if none was folded. */
  readonly last: { readonly entry: ReplayEntry; readonly command: Command } | undefined;
}

export type ReplayEntry = { readonly delivery: DeliveryHead; readonly gen: number | undefined } & (
  | { readonly what: 'folded' }
  | { readonly what: 'refused'; readonly refusal: AdmissionRefusal }
  | { readonly what: 'rejected'; readonly faults: readonly [Fault, ...Fault[]] }
);

/** A replay in progress. */
export interface Replaying {
  take(delivery: Delivery, reading: Reading): void;
  result(): Replay;
}

/**
 * Folds a backlog of commands into the desired state that applying them one by one would give. It refuses the commands
 * that would have been refused then. The memory that it keeps for a command does not depend on the command's size.
 *
 * @param accept throws for an impossible desired state; the command that leads to it is rejected
 */
export function beginReplay(start: ReplayState, serverNow: number, accept: (desired: DesiredState) => void): Replaying {
  let { desired, generation, awaitingDeploy } = start;
  let last: Replay['last'];
  const entries: ReplayEntry[] = [];

  const entryOf = (head: DeliveryHead, reading: Reading): ReplayEntry => {
    const common = { delivery: head, gen: reading.envelope.gen };
    if (!reading.ok) return { ...common, what: 'rejected', faults: faultsOf(reading.error) };
    const { command, envelope } = reading;
    const refusal = refusalOf(command.verb, envelope, { generation, awaitingDeploy }, serverNow);
    if (refusal !== undefined) return { ...common, what: 'refused', refusal };
    try {
      const next = fold(desired ?? NOTHING_DESIRED, command);
      accept(next);
      desired = next;
    } catch (error) {
      return { ...common, what: 'rejected', faults: faultsOf(error) };
    }
    generation = envelope.gen ?? generation;
    if (command.verb === 'deploy') awaitingDeploy = undefined;
    const entry: ReplayEntry = { ...common, what: 'folded' };
    last = { entry, command };
    return entry;
  };

  return {
    take: (delivery, reading) => void entries.push(entryOf(headOf(delivery), reading)),
    result: () => ({ desired, generation, awaitingDeploy, entries, last }),
  };
}
