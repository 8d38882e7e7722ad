import { TRACING } from '../../domain/hook.js';
import { areWhole, type LoadedProbes } from '../../domain/observed.js';
import { mapPin, probesDir } from '../../domain/pins.js';
import { contentDigest, type Program, packageOf } from '../../domain/program.js';
import type { ProgramOutcome } from '../../steps/plan.js';
import type { LoadProbesStep, Step } from '../../steps/step.js';
import { carried, takenFrom } from '../chain/members.js';
import { beginsAnew } from '../companions/handover.js';
import type { Loaders, PlanContext } from '../context.js';
import {
  checkKeptMonitors,
  fillOf,
  type Ground,
  hasOtherConstants,
  type Inheritance,
  lacksMaps,
  planMapChanges,
  staleConstants,
  waitingEntries,
} from '../maps/changes.js';
import { outcomesOf } from '../outcome.js';

export interface ProbesInput {
  readonly observed: readonly LoadedProbes[];
  /** The probes that were last applied; undefined if unknown. */
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
  readonly ground: Ground;
  readonly loaders: Loaders;
}

/** The part of a plan for the probes of the host. */
export interface ProbesPlan {
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  readonly discard: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  readonly reasons: readonly string[];
}

/**
 * Plans the change from the pinned probes to the desired ones. Nothing is chained behind a probe. So new probes are
 * attached when they are loaded, which may fail like any load, and old ones are removed last. No event is missed;
 * events in between are seen by both. A reload of the same code takes over all maps.
 *
 * @throws AgentError MAP_VALUE_INVALID, MAP_NOT_FOUND
 */
export function planProbes(input: ProbesInput, context: PlanContext): ProbesPlan {
  const { observed, before, wanted, ground } = input;
  const members = wanted.filter(({ enabled }) => enabled).map((program) => memberOf(program, input, context));
  checkKeptMonitors(members, before);
  const maps = planMapChanges(members, before, ground);
  const kept = new Set(members.map(({ dir }) => dir));
  const going = observed.filter(({ dir }) => !kept.has(dir));
  const standing = [
    ...new Map(observed.filter(({ probes }) => probes.length > 0).map((one) => [one.name, one])).values(),
  ];
  const loads = members.flatMap(({ load }) => load ?? []);
  return {
    prepare: loads,
    commit: maps,
    discard: going.map(({ dir }) => ({ op: 'discard', dir })),
    outcomes: outcomesOf({
      hook: TRACING,
      standing,
      before,
      wanted,
      members,
      changedMaps: new Set(maps.map(({ map }) => map)),
      renewed: new Set(wanted.filter((program) => program.enabled && hasOtherConstants(program, standing, input))),
      waiting: waitingEntries(members, ground),
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
  { observed, before, ground, loaders }: ProbesInput,
  { bpffs }: PlanContext,
): ProbeMember {
  const digest = contentDigest(program);
  const twins = observed.filter((other) => other.name === program.name && other.digest === digest);
  const isFresh = beginsAnew(TRACING, program, twins, loaders);
  const isAsAsked = (twin: LoadedProbes) =>
    !isFresh && !lacksMaps(twin, program) && staleConstants(twin, program, before, ground).length === 0;
  const whole = twins.findLast((twin) => isWhole(twin) && isAsAsked(twin));
  if (whole !== undefined) {
    return { program, dir: whole.dir, inherited: { from: whole, maps: whole.maps }, load: undefined };
  }
  // What an interrupted load has left does not count as applied.
  const wasApplied = before?.some((other) => other.enabled && contentDigest(other) === digest) === true;
  const twin = twins.findLast(({ probes }) => wasApplied || probes.length > 0);
  const inherited =
    twin === undefined ? carried(program, observed) : takenFrom(twin, program, { before, ground, isFresh });
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
    fill: fillOf(program, inherited?.maps ?? [], before),
    ...(monitors !== undefined && { monitors }),
  };
  return { program, dir, inherited, load };
}

/** Whether a load of probes is complete: each probe is attached, and every map is pinned. */
export function isWhole({ probes, lostMaps }: LoadedProbes): boolean {
  return probes.length > 0 && areWhole(probes) && lostMaps.length === 0;
}

function reasonsOf(loads: readonly LoadProbesStep[], changesMaps: boolean, going: readonly LoadedProbes[]): string[] {
  const count = (number: number) => `${number} ${number === 1 ? 'package' : 'packages'} of probes`;
  const says = [
    ...(loads.length > 0
      ? [`attaches ${count(loads.length)} before old ones are removed, so that no event is missed`]
      : []),
    ...(loads.length === 0 && changesMaps ? ['changes entries of live maps; nothing is loaded'] : []),
    ...(going.length > 0 ? [`removes ${count(going.length)}`] : []),
  ];
  return says.length === 0 ? [] : [`probes: ${says.join(' and ')}`];
}
