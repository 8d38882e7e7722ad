import type { CompanionLaunch } from '../../domain/companion.js';
import type { ChainHook } from '../../domain/hook.js';
import type { LoadedProgram } from '../../domain/observed.js';
import { type LoadRef, loadDir, mapPin, mapSegment } from '../../domain/pins.js';
import { contentDigest, type Program, packageOf } from '../../domain/program.js';
import { AgentError } from '../../errors.js';
import type { CaptureStep, LoadStep } from '../../steps/step.js';
import { type HookInput, nextLoad, type PlanContext, type RootProgram } from '../context.js';
import { fillOf, type Inheritance, staleConstants } from '../maps/changes.js';
import { donorOf } from './donors.js';

/** A program's place in the chain after the plan: a loaded program that stays, or one that is to be loaded. */
export interface Member {
  readonly program: Program;
  readonly dir: string;
  /** The data maps that already exist: those of a program that stays, or those that the load takes over. */
  readonly inherited: Inheritance | undefined;
  /** How the program is loaded; undefined if it stays loaded. */
  readonly load: LoadStep | undefined;
  /** Used instead of `load` if the companion loads the program. */
  readonly handover?: { readonly launch: CompanionLaunch; readonly restarts: number; readonly capture: CaptureStep };
}

export function keep(program: Program, loaded: LoadedProgram): Member {
  return { program, dir: loaded.dir, inherited: { from: loaded, maps: loaded.maps }, load: undefined };
}

/**
 * Plans a load. It takes over the data maps of a program that already runs the same code here, so that counters and
 * tables are kept.
 *
 * @param isFresh see {@link takenFrom}
 */
export function loadAnew(
  program: Program,
  { observed, before, ground }: HookInput,
  standing: readonly LoadedProgram[],
  context: PlanContext,
  { isFresh = false }: { readonly isFresh?: boolean } = {},
): Member {
  const { hook, loadedPrograms } = observed;
  const digest = contentDigest(program);
  const { name, version } = program;
  const ref: LoadRef = nextLoad({ hook, name, version, digest }, loadedPrograms);
  // A load that was cut off from the chain by hand still has its maps. One that was never applied does not count.
  const wasApplied = before?.some((other) => other.enabled && contentDigest(other) === digest) === true;
  const cutOff = wasApplied ? loadedPrograms.filter(({ programId }) => programId !== undefined) : [];
  const twin = [...standing, ...cutOff].find((other) => other.digest === digest);
  const inherited =
    twin === undefined ? carried(program, standing) : takenFrom(twin, program, { before, ground, isFresh });
  const dir = loadDir(context.bpffs, ref);
  const { objectFile, entryFunction, mapName: slotMap } = program;
  const load: LoadStep = {
    op: 'load',
    ref,
    dir,
    source: { kind: 'package', package: packageOf(program), objectFile, entryFunction, slotMap },
    share: (inherited?.maps ?? []).map(({ name: map }) => ({ map, pin: mapPin(inherited!.from.dir, map) })),
    // Entries of live maps are changed by the commit, not before.
    fill: fillOf(program, inherited?.maps ?? [], before),
    ...(program.monitors !== undefined && { monitors: program.monitors }),
  };
  const isLeft = donorOf({ dir, digest, inherited }, loadedPrograms) !== undefined;
  return { program, dir, inherited, load: isLeft ? { ...load, probes: 'leave' } : load };
}

/**
 * The maps that a program takes over which is loaded again: all of them, but not constants that have other values now.
 *
 * @param isFresh whether it begins anew, and takes over only what is carried, as a new version does
 */
export function takenFrom<From extends Pick<LoadedProgram, 'dir' | 'digest' | 'maps'>>(
  twin: From,
  program: Program,
  { before, ground, isFresh }: Pick<HookInput, 'before' | 'ground'> & { readonly isFresh: boolean },
): Inheritance {
  const stale = staleConstants(twin, program, before, ground);
  const carriedNames = new Set(program.carryMaps.map(mapSegment));
  const maps = twin.maps.filter((map) => !stale.includes(map) && (!isFresh || carriedNames.has(map.name)));
  return { from: twin, maps };
}

/**
 * The maps that a new version takes over from the running version (`carry_maps`).
 *
 * @throws AgentError MAP_NOT_FOUND
 */
export function carried(
  program: Program,
  standing: readonly Pick<LoadedProgram, 'name' | 'dir' | 'digest' | 'maps'>[],
): Inheritance | undefined {
  const from = standing.find((other) => other.name === program.name);
  if (from === undefined || program.carryMaps.length === 0) return undefined;
  const maps = program.carryMaps.map((name, index) => {
    const map = from.maps.find((other) => other.name === mapSegment(name));
    if (map !== undefined) return map;
    const there = from.maps.map((other) => other.name).join(', ') || 'none';
    const message = `The running version of ${program.name} has no map ${name} for carry_maps; it has ${there}`;
    throw new AgentError('MAP_NOT_FOUND', message, { path: `${program.path}.carry_maps.${index}` });
  });
  return { from, maps };
}

export function loadRoot(
  root: RootProgram,
  hook: ChainHook,
  existing: readonly LoadedProgram[],
  context: PlanContext,
): LoadStep {
  const { name, version, digest, object, entryFunction, slotMap } = root;
  const ref = nextLoad({ hook, name, version, digest }, existing);
  return {
    op: 'load',
    ref,
    dir: loadDir(context.bpffs, ref),
    source: { ...object, entryFunction, slotMap },
    share: [],
    fill: [],
  };
}

export function loadsOf(all: readonly { readonly load: LoadStep | undefined }[]): LoadStep[] {
  return all.flatMap(({ load }) => load ?? []);
}
