import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { differencesOf } from '../domain/difference.js';
import { hookKey, NO_HOOK } from '../domain/hook.js';
import {
  areWhole,
  type Generation,
  hookAt,
  isOvertaken,
  type Observed,
  type ObservedHook,
  observedProbes,
  type ProbeGeneration,
  standingChain,
} from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { Step } from '../domain/step.js';
import type { PlanContext } from './context.js';
import { isWhole } from './probes.js';

/** What is not as it is desired, or not as the agent left it, in sentences: for the event that tells of a repair. */
export function findingsOf(observed: Observed, desired: DesiredState, { chaining, roots }: PlanContext): string[] {
  const hooks = new Map([...desired.chains, ...observed.hooks].map(({ hook }) => [hookKey(hook), hook]));
  const probes = probeFindings(observed, desired).map((text) => `${hookKey(NO_HOOK)}: ${text}`);
  const chains = [...hooks].flatMap(([key, hook]) => {
    const [wanted, at] = [programsAt(desired, hook), hookAt(observed, hook)];
    const root = chaining ? roots[hook.direction] : undefined;
    const present = observed.interfaces.has(hook.iface);
    const differences = differencesOf({ hook, wanted, observed: at, present, root }).map(({ text }) => text);
    return [...differences, ...lostPins(at, wanted)].map((text) => `${key}: ${text}`);
  });
  return [...chains, ...probes];
}

function probeFindings(observed: Observed, desired: DesiredState): string[] {
  const wanted = probesOf(desired).filter(({ enabled }) => enabled);
  const standing = observedProbes(observed);
  const isWanted = (one: ProbeGeneration) =>
    wanted.some((probe) => probe.name === one.name && contentDigest(probe) === one.digest);
  const missing = wanted.filter((probe) => !standing.some(({ name }) => name === probe.name));
  return [
    ...missing.map(({ name, version }) => `${name} ${version} is desired, and not attached`),
    ...standing.flatMap((one) => {
      if (!isWanted(one)) return [`${one.name} ${one.versionSegment} is attached, and not desired`];
      return isWhole(one) ? [] : [`Not all of ${one.name} is pinned any more`];
    }),
  ];
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
    const probes = areWhole(generation.probes ?? []) ? [] : ['probes'];
    const overtaken = isOvertaken(generation) ? [`The companion of ${name} has put another program into its slot`] : [];
    return [...overtaken, ...[...lost, ...probes].map((what) => `The ${what} of ${name} is not pinned any more`)];
  });
}

/** The root has one as well. */
function lacksSlot({ slot, digest }: Generation, wanted: readonly Program[]): boolean {
  return slot === undefined && wanted.find((program) => contentDigest(program) === digest)?.mapName !== '';
}
