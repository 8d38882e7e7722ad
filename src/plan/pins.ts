import { type DesiredState, programsAt } from '../domain/desired.js';
import type { Observed } from '../domain/observed.js';
import { contentDigest } from '../domain/program.js';
import type { RepinStep } from '../domain/step.js';
import type { PlanContext } from './context.js';

/**
 * The steps that pin again what somebody has unpinned of programs that run and are still wanted, so that planning finds them as they
 * were, counters and tables included. Packets do not notice.
 *
 * A slot is left out: the kernel empties it with its last pin, so its program is loaded anew. While it is missing it cannot be told from
 * the maps that are, and opening it by its id might make the kernel keep it for good (see test/support/kernel-ids.ts).
 */
export function planPins(observed: Observed, desired: DesiredState, { roots }: PlanContext): RepinStep[] {
  return observed.hooks.flatMap(({ hook, generations }) => {
    const wanted = programsAt(desired, hook).filter(({ enabled }) => enabled);
    return generations.flatMap(({ unpinned, programId, digest, dir, slot }): RepinStep[] => {
      const program = wanted.find((other) => contentDigest(other) === digest);
      const isWanted = program !== undefined || roots[hook.direction].digest === digest;
      if (unpinned === undefined || programId === undefined || !isWanted) return [];
      const maps = slot !== undefined || program?.mapName === '' ? unpinned.maps : [];
      if (!unpinned.program && maps.length === 0) return [];
      return [{ op: 'repin', dir, programId, program: unpinned.program, maps }];
    });
  });
}
