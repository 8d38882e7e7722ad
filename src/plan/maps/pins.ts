import { type DesiredState, programsAt } from '../../domain/desired.js';
import type { Observed } from '../../domain/observed.js';
import { contentDigest } from '../../domain/program.js';
import type { RepinStep } from '../../steps/step.js';
import type { PlanContext } from '../context.js';

/**
 * The steps that restore pins which somebody has removed from programs that run and are still desired. Planning then
 * finds these programs as they were, including counters and tables. Packets do not notice.
 *
 * A slot is not restored: the kernel empties it with its last pin, so its program is loaded again. While the slot is
 * missing, it cannot be told apart from the missing maps. Opening it by its id might also make the kernel keep it for
 * ever (see test/support/kernel-ids.ts).
 */
export function planPins(observed: Observed, desired: DesiredState, { roots }: PlanContext): RepinStep[] {
  return observed.hooks.flatMap(({ hook, loadedPrograms }) => {
    const wanted = programsAt(desired, hook).filter(({ enabled }) => enabled);
    return loadedPrograms.flatMap(({ unpinned, programId, digest, dir, slot }): RepinStep[] => {
      const program = wanted.find((other) => contentDigest(other) === digest);
      const isWanted = program !== undefined || roots[hook.direction].digest === digest;
      if (unpinned === undefined || programId === undefined || !isWanted) return [];
      const maps = slot !== undefined || program?.mapName === '' ? unpinned.maps : [];
      if (!unpinned.program && maps.length === 0) return [];
      return [{ op: 'repin', dir, programId, program: unpinned.program, maps }];
    });
  });
}
