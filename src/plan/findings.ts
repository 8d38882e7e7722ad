import { type DesiredState, programsAt } from '../domain/desired.js';
import { differencesOf } from '../domain/difference.js';
import { hookKey } from '../domain/hook.js';
import { type Generation, hookAt, type Observed, type ObservedHook, standingChain } from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { Step } from '../domain/step.js';
import type { PlanContext } from './context.js';

/** What is not as it is desired, or not as the agent left it, in sentences: for the event that tells of a repair. */
export function findingsOf(observed: Observed, desired: DesiredState, { chaining, roots }: PlanContext): string[] {
  const hooks = new Map([...desired.chains, ...observed.hooks].map(({ hook }) => [hookKey(hook), hook]));
  return [...hooks].flatMap(([key, hook]) => {
    const [wanted, at] = [programsAt(desired, hook), hookAt(observed, hook)];
    const root = chaining ? roots[hook.direction] : undefined;
    const present = observed.interfaces.has(hook.iface);
    const differences = differencesOf({ hook, wanted, observed: at, present, root }).map(({ text }) => text);
    return [...differences, ...lostPins(at, wanted)].map((text) => `${key}: ${text}`);
  });
}

/** The names that have to be given again, though nothing else has changed. */
export function nameFindings(steps: readonly Step[]): string[] {
  return steps.flatMap((step) => (step.op === 'publish' ? [`${step.path} does not name the map that is used`] : []));
}

function lostPins(observed: ObservedHook, wanted: readonly Program[]): string[] {
  const standing = new Set(standingChain(observed));
  return observed.generations.flatMap((generation) => {
    const { name, programId, unpinned } = generation;
    if (programId === undefined)
      return [`The directory of ${name} holds no program: somebody has unpinned it, or a load was cut short`];
    if (!standing.has(generation)) return [];
    const lost = [
      ...(unpinned?.program === true ? ['program'] : []),
      ...(lacksSlot(generation, wanted) ? ['slot'] : (unpinned?.maps ?? []).map((id) => `map ${id}`)),
    ];
    return lost.map((what) => `The ${what} of ${name} is not pinned any more`);
  });
}

/** The root has one as well. */
function lacksSlot({ slot, digest }: Generation, wanted: readonly Program[]): boolean {
  return slot === undefined && wanted.find((program) => contentDigest(program) === digest)?.mapName !== '';
}
