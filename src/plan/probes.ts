import { NO_HOOK } from '../domain/hook.js';
import { areWhole, type ProbeGeneration } from '../domain/observed.js';
import { mapPin, probesDir } from '../domain/pins.js';
import type { ProgramOutcome } from '../domain/plan.js';
import { contentDigest, type Program, packageOf } from '../domain/program.js';
import type { LoadProbesStep, Step } from '../domain/step.js';
import type { PlanContext } from './context.js';
import { checkKeptMonitors, fillOf, type Inheritance, lacksMaps, planMapChanges } from './maps.js';
import { carried } from './members.js';
import { outcomesOf } from './outcome.js';

export interface ProbesInput {
  readonly observed: readonly ProbeGeneration[];
  /** The probes that were last applied; undefined if that is not known. */
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
}

/** The part of a plan that concerns the probes of the host. */
export interface ProbesPlan {
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  readonly discard: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  readonly reasons: readonly string[];
}

/**
 * From the probes that are pinned to those that are wanted. Nothing is behind a probe and nothing passes it, so that what is new is
 * attached when it is loaded, which may fail like any load, and what is old goes last: no event is missed, and those of the
 * moment between are seen by both. A reload of the same code takes all maps over.
 *
 * @throws AgentError MAP_VALUE_INVALID, MAP_NOT_FOUND
 */
export function planProbes({ observed, before, wanted }: ProbesInput, context: PlanContext): ProbesPlan {
  const members = wanted
    .filter(({ enabled }) => enabled)
    .map((program) => memberOf(program, observed, before, context));
  checkKeptMonitors(members, before);
  const maps = planMapChanges(members, before);
  const kept = new Set(members.map(({ dir }) => dir));
  const going = observed.filter(({ dir }) => !kept.has(dir));
  const standing = [
    ...new Map(observed.filter(({ probes }) => probes.length > 0).map((one) => [one.name, one])).values(),
  ];
  const loads = members.flatMap(({ load }) => load ?? []);
  return {
    prepare: loads.flatMap((load): Step[] => [{ op: 'fetch', package: load.source.package }, load]),
    commit: maps,
    discard: going.map(({ dir }) => ({ op: 'discard', dir })),
    outcomes: outcomesOf({
      hook: NO_HOOK,
      standing,
      before,
      wanted,
      members,
      changedMaps: new Set(maps.map(({ map }) => map)),
    }),
    reasons: reasonsOf(loads, maps.length > 0, going),
  };
}

interface ProbeMember {
  readonly program: Program;
  readonly dir: string;
  readonly inherited: Inheritance | undefined;
  readonly load: LoadProbesStep | undefined;
}

function memberOf(
  program: Program,
  observed: readonly ProbeGeneration[],
  before: readonly Program[] | undefined,
  { bpffs }: PlanContext,
): ProbeMember {
  const digest = contentDigest(program);
  const twins = observed.filter((other) => other.name === program.name && other.digest === digest);
  const whole = twins.findLast((twin) => isWhole(twin) && !lacksMaps(twin, program));
  if (whole !== undefined) {
    return { program, dir: whole.dir, inherited: { from: whole, maps: whole.maps }, load: undefined };
  }
  // What a load that was cut short has left is not taken for what was applied.
  const wasApplied = before?.some((other) => other.enabled && contentDigest(other) === digest) === true;
  const twin = twins.findLast(({ probes }) => wasApplied || probes.length > 0);
  const inherited = twin === undefined ? carried(program, observed) : { from: twin, maps: twin.maps };
  const serial = Math.max(0, ...twins.map((other) => other.serial)) + 1;
  const { name, version, objectFile, entryFunction, monitors } = program;
  const probes = { name, version, digest, serial };
  const dir = probesDir(bpffs, probes);
  const load: LoadProbesStep = {
    op: 'load-probes',
    probes,
    dir,
    source: { package: packageOf(program), objectFile, entryFunction },
    share: (inherited?.maps ?? []).map((map) => ({ map: map.name, pin: mapPin(inherited!.from.dir, map.name) })),
    fill: fillOf(program, new Set(inherited?.maps.map((map) => map.name))),
    ...(monitors !== undefined && { monitors }),
  };
  return { program, dir, inherited, load };
}

/** Whether a load of probes is as it was made: each of them attached, and every map of theirs pinned. */
export function isWhole({ probes, lostMaps }: ProbeGeneration): boolean {
  return probes.length > 0 && areWhole(probes) && lostMaps.length === 0;
}

function reasonsOf(
  loads: readonly LoadProbesStep[],
  changesMaps: boolean,
  going: readonly ProbeGeneration[],
): string[] {
  const count = (number: number) => `${number} ${number === 1 ? 'package' : 'packages'} of probes`;
  const says = [
    ...(loads.length > 0
      ? [`attaches ${count(loads.length)} before what is old goes, so that no event is missed`]
      : []),
    ...(loads.length === 0 && changesMaps ? ['changes entries of live maps; nothing is loaded'] : []),
    ...(going.length > 0 ? [`takes ${count(going.length)} away`] : []),
  ];
  return says.length === 0 ? [] : [`probes: ${says.join(' and ')}`];
}
