import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { differencesOf } from '../domain/difference.js';
import { hookKey, TRACING } from '../domain/hook.js';
import {
  areWhole,
  hookAt,
  isOvertaken,
  isPresent,
  type LoadedProbes,
  type LoadedProgram,
  type Observed,
  type ObservedHook,
  observedProbes,
  standingChain,
} from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { Step } from '../steps/step.js';
import type { PlanContext } from './context.js';
import { isWhole } from './tracing/probes.js';

/**
 * Sentences about what differs from the desired state, or from what the agent left. They go into the event about a
 * repair.
 */
export function findingsOf(observed: Observed, desired: DesiredState, { chaining, roots }: PlanContext): string[] {
  const hooks = new Map([...desired.chains, ...observed.hooks].map(({ hook }) => [hookKey(hook), hook]));
  const probes = probeFindings(observed, desired).map((text) => `${hookKey(TRACING)}: ${text}`);
  const chains = [...hooks].flatMap(([key, hook]) => {
    const [wanted, at] = [programsAt(desired, hook), hookAt(observed, hook)];
    const root = chaining ? roots[hook.direction] : undefined;
    const present = isPresent(observed, hook);
    const differences = differencesOf({ hook, wanted, observed: at, present, root }).map(({ text }) => text);
    return [...differences, ...lostPins(at, wanted)].map((text) => `${key}: ${text}`);
  });
  return [...chains, ...probes];
}

function probeFindings(observed: Observed, desired: DesiredState): string[] {
  const wanted = probesOf(desired).filter(({ enabled }) => enabled);
  const standing = observedProbes(observed);
  const isWanted = (one: LoadedProbes) =>
    wanted.some((probe) => probe.name === one.name && contentDigest(probe) === one.digest);
  const missing = wanted.filter((probe) => !standing.some(({ name }) => name === probe.name));
  return [
    ...missing.map(({ name, version }) => `${name} ${version} is desired, but not attached`),
    ...standing.flatMap((one) => {
      if (!isWanted(one)) return [`${one.name} ${one.versionSegment} is attached, but not desired`];
      return isWhole(one) ? [] : [`Not all of ${one.name} is pinned any more`];
    }),
  ];
}

/** Public names that must be set again although nothing else has changed. */
export function nameFindings(steps: readonly Step[]): string[] {
  return steps.flatMap((step) => (step.op === 'publish' ? [`${step.path} does not name the map that is used`] : []));
}

function lostPins(observed: ObservedHook, wanted: readonly Program[]): string[] {
  const standing = new Set(standingChain(observed));
  return observed.loadedPrograms.flatMap((loaded) => {
    const { name, programId, unpinned } = loaded;
    if (programId === undefined)
      return [`The directory of ${name} holds no program: somebody has unpinned it, or a load was cut short`];
    if (!standing.has(loaded)) return [];
    const lost = [
      ...(unpinned?.program === true ? ['program'] : []),
      ...(lacksSlot(loaded, wanted) ? ['slot'] : (unpinned?.maps ?? []).map((id) => `map ${id}`)),
    ];
    const probes = areWhole(loaded.probes ?? []) ? [] : ['probes'];
    const overtaken = isOvertaken(loaded) ? [`The companion of ${name} has put another program into its slot`] : [];
    return [...overtaken, ...[...lost, ...probes].map((what) => `The ${what} of ${name} is not pinned any more`)];
  });
}

/** Whether a program has lost its slot. The root has a slot too. */
function lacksSlot({ slot, digest }: LoadedProgram, wanted: readonly Program[]): boolean {
  return slot === undefined && wanted.find((program) => contentDigest(program) === digest)?.mapName !== '';
}
