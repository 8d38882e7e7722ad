import type { CompanionLaunch } from '../domain/companion.js';
import type { Hook } from '../domain/hook.js';
import type { Generation } from '../domain/observed.js';
import { type GenerationRef, generationDir, mapPin, mapSegment } from '../domain/pins.js';
import { contentDigest, type Program, packageOf } from '../domain/program.js';
import type { CaptureStep, LoadStep, Step } from '../domain/step.js';
import { AgentError } from '../errors.js';
import { type HookInput, nextGeneration, type PlanContext, type RootProgram } from './context.js';
import { donorOf } from './donors.js';
import { fillOf, type Inheritance } from './maps.js';

/** A program's place in the chain after the plan: a generation that stays, or one that is loaded for it. */
export interface Member {
  readonly program: Program;
  readonly dir: string;
  /** The data maps that it has already: those of the generation that stays, or those that the load takes over. */
  readonly inherited: Inheritance | undefined;
  /** The load for one that does not stay. */
  readonly load: LoadStep | undefined;
  /** In its place for one that its companion loads. */
  readonly stage?: { readonly launch: CompanionLaunch; readonly restarts: number; readonly capture: CaptureStep };
}

export function keep(program: Program, generation: Generation): Member {
  return { program, dir: generation.dir, inherited: { from: generation, maps: generation.maps }, load: undefined };
}

/** A load that takes over the data maps where the same code already runs here, so that it keeps its counters and tables. */
export function loadAnew(
  program: Program,
  { observed, before }: HookInput,
  standing: readonly Generation[],
  context: PlanContext,
): Member {
  const { hook, generations } = observed;
  const digest = contentDigest(program);
  const { name, version } = program;
  const generation: GenerationRef = nextGeneration({ hook, name, version, digest }, generations);
  // One that somebody has cut off from the chain has its maps still. One that was never applied does not count.
  const wasApplied = before?.some((other) => other.enabled && contentDigest(other) === digest) === true;
  const cutOff = wasApplied ? generations.filter(({ programId }) => programId !== undefined) : [];
  const twin = [...standing, ...cutOff].find((other) => other.digest === digest);
  const inherited = twin === undefined ? carried(program, standing) : { from: twin, maps: twin.maps };
  const taken = new Set(inherited?.maps.map((map) => map.name));
  const dir = generationDir(context.bpffs, generation);
  const { objectFile, entryFunction, mapName: slotMap } = program;
  const load: LoadStep = {
    op: 'load',
    generation,
    dir,
    source: { kind: 'package', package: packageOf(program), objectFile, entryFunction, slotMap },
    share: (inherited?.maps ?? []).map(({ name: map }) => ({ map, pin: mapPin(inherited!.from.dir, map) })),
    // What is in live maps is changed by the commit, not before.
    fill: fillOf(program, taken),
    ...(program.monitors !== undefined && { monitors: program.monitors }),
  };
  const isLeft = donorOf({ dir, digest, inherited }, generations) !== undefined;
  return { program, dir, inherited, load: isLeft ? { ...load, probes: 'leave' } : load };
}

/**
 * The maps that a new version takes over from the version that runs (`carry_maps`).
 *
 * @throws AgentError MAP_NOT_FOUND
 */
export function carried(
  program: Program,
  standing: readonly Pick<Generation, 'name' | 'dir' | 'digest' | 'maps'>[],
): Inheritance | undefined {
  const from = standing.find((other) => other.name === program.name);
  if (from === undefined || program.carryMaps.length === 0) return undefined;
  const maps = program.carryMaps.map((name, index) => {
    const map = from.maps.find((other) => other.name === mapSegment(name));
    if (map !== undefined) return map;
    const there = from.maps.map((other) => other.name).join(', ') || 'none';
    const message = `The running version of ${program.name} has no map ${name} to hand on; it has ${there}`;
    throw new AgentError('MAP_NOT_FOUND', message, { path: `${program.path}.carry_maps.${index}` });
  });
  return { from, maps };
}

export function loadRoot(
  root: RootProgram,
  hook: Hook,
  existing: readonly Generation[],
  context: PlanContext,
): LoadStep {
  const { name, version, digest, object, entryFunction, slotMap } = root;
  const generation = nextGeneration({ hook, name, version, digest }, existing);
  return {
    op: 'load',
    generation,
    dir: generationDir(context.bpffs, generation),
    source: { ...object, entryFunction, slotMap },
    share: [],
    fill: [],
  };
}

/** Loads, each with what must be fetched before it. */
export function loadsOf(all: readonly { readonly load: LoadStep | undefined }[]): Step[] {
  return all.flatMap(({ load }): Step[] => {
    if (load === undefined) return [];
    return load.source.kind === 'package' ? [{ op: 'fetch', package: load.source.package }, load] : [load];
  });
}
