import { type CompanionLaunch, companionKey, isAsItShould, startsAlike } from '../domain/companion.js';
import { programKind } from '../domain/hook.js';
import { type Generation, isOvertaken, type ObservedHook } from '../domain/observed.js';
import { type GenerationRef, generationDir, mapPin, mapSegment, publicMapPath } from '../domain/pins.js';
import { contentDigest, isSelfLoaded, type Program, packageOf } from '../domain/program.js';
import type { CaptureStep, Claim, Step } from '../domain/step.js';
import { AgentError } from '../errors.js';
import { type HookInput, type Loaders, nextGeneration, type PlanContext, type PublicNames } from './context.js';
import { fillOf, type Inheritance } from './maps.js';
import { carried, type Member } from './members.js';

/*
 * A program without object file is loaded by its companion, which puts it into a slot that it is given. That is not the slot of the live
 * chain: it is one of a stage, made for it, so that what it loads is prepared beside what runs, like any load, and put in place by the one
 * write that packets notice. Until then the companion of before runs on, and it is stopped when its program is out of the chain.
 */

export function launchOf({ hook }: Pick<ObservedHook, 'hook'>, program: Program): CompanionLaunch {
  const { companion, path } = program;
  if (companion === undefined) {
    throw new AgentError('INTERNAL', `${program.name} has neither an object file nor a companion`, { path });
  }
  return { hook, package: packageOf(program), companion };
}

/**
 * Directories of generations that cannot stay though their code is wanted: the companion that has loaded them is to be started in another
 * way, or again, or has loaded something else since. It would load its program anew, and it alone knows the maps of the one that it has.
 */
export function staleLoads(
  observed: ObservedHook,
  wanted: readonly Program[],
  { running, except, revivals, chainsOnly }: Loaders,
): ReadonlySet<string> {
  const loaded = wanted.filter((program) => program.enabled && isSelfLoaded(program));
  if (chainsOnly || loaded.length === 0) return new Set();
  const isStale = (generation: Generation) => {
    const { dir, digest } = generation;
    const program = loaded.find((other) => contentDigest(other) === digest);
    if (program === undefined) return false;
    const launch = launchOf(observed, program);
    const key = companionKey(launch);
    const found = running.find((other) => other.loaded === dir);
    if (except.has(key)) return false;
    if (isOvertaken(generation) || (found !== undefined && !startsAlike(found.launch, launch))) return true;
    if (revivals !== undefined) return revivals.has(key);
    return found === undefined || !isAsItShould(found);
  };
  return new Set(observed.generations.filter(isStale).map(({ dir }) => dir));
}

/**
 * A program that its companion is to load. It has new maps: only `carry_maps` names some that keep their public names meanwhile, by which
 * the companion can take them over.
 *
 * @throws AgentError MAP_NOT_FOUND
 */
export function stageAnew(
  program: Program,
  { observed, loaders, names = NO_NAMES }: HookInput,
  standing: readonly Generation[],
  { bpffs }: PlanContext,
): Member {
  const { hook, generations } = observed;
  const { name, version, monitors, mapName: slotMap } = program;
  const digest = contentDigest(program);
  const generation = nextGeneration({ hook, name, version, digest }, generations);
  const dir = generationDir(bpffs, generation);
  const inherited = carriedTo(program, digest, standing);
  const taken = new Set(inherited?.maps.map((map) => map.name));
  const capture: CaptureStep = {
    op: 'capture',
    generation,
    dir,
    slotMap,
    share: (inherited?.maps ?? []).map((map) => ({ map: map.name, pin: mapPin(inherited!.from.dir, map.name) })),
    fill: fillOf(program, taken),
    ...(monitors !== undefined && { monitors }),
    claim: claimOf(generation, names, bpffs),
  };
  const launch = launchOf(observed, program);
  const restarts = loaders?.revivals?.get(companionKey(launch))?.restarts ?? 0;
  return { program, dir, inherited, load: undefined, stage: { launch, restarts, capture } };
}

/** A program that is loaded again, maybe since it has lost a map, takes over what there is of it. */
function carriedTo(program: Program, digest: string, standing: readonly Generation[]): Inheritance | undefined {
  const twin = standing.find((other) => other.name === program.name && other.digest === digest);
  if (twin === undefined) return carried(program, standing);
  const names = new Set(program.carryMaps.map(mapSegment));
  return { from: twin, maps: twin.maps.filter(({ name }) => names.has(name)) };
}

const NO_NAMES: PublicNames = { publicMaps: new Map(), pins: new Map() };

/**
 * Has companions load their programs, one after the other.
 *
 * @param like pin of the program that the chain begins with; null where there is none
 */
export function stagesOf(
  members: readonly Member[],
  like: string | null,
  { names = NO_NAMES }: Pick<HookInput, 'names'>,
  bpffs: string,
): Step[] {
  return members.flatMap(({ stage }): Step[] => {
    if (stage === undefined) return [];
    const { launch, restarts, capture } = stage;
    const { generation, dir } = capture;
    return [
      { op: 'fetch', package: launch.package },
      { op: 'check-companion', launch },
      { op: 'stage', generation, dir, like },
      ...namesFor(capture, names, bpffs),
      { op: 'start-companion', launch, dir, restarts, loads: capture.claim },
      capture,
    ];
  });
}

/** The folder of the program's public names, without what is a stranger's there. */
function claimOf(generation: GenerationRef, { publicMaps, orphans = [], pins }: PublicNames, bpffs: string): Claim {
  const folder = dirname(publicMapPath(bpffs, generation, 'map'));
  const except = [...publicMaps].flatMap(([path, id]) => {
    const isNobodys = orphans.some((map) => map.id === id);
    return path.startsWith(`${folder}/`) && !pins.has(id) && !isNobodys ? [path] : [];
  });
  return { folder, except };
}

/**
 * The public names as the companion is to find them. It pins its maps there, or takes over what is pinned there already, which must not be
 * the slot of a program that runs, nor any other map but those that are carried. TC programs of one name share the folder with those of
 * the other direction (l3afd's paths do not tell them apart), which may come about by the same command: so it is cleared once more.
 */
function namesFor(
  { generation, share, claim: { folder, except } }: CaptureStep,
  { publicMaps, pins }: PublicNames,
  bpffs: string,
): Step[] {
  const isShared = programKind(generation.hook.direction) === 'tc';
  const carriedMaps = share.map(({ map, pin }) => ({ path: publicMapPath(bpffs, generation, map), pin }));
  const carriedPaths = carriedMaps.map(({ path }) => path);
  const inTheWay = [...publicMaps].flatMap(([path, id]): Step[] => {
    if (!path.startsWith(`${folder}/`) || except.includes(path) || carriedPaths.includes(path)) return [];
    const pin = pins.get(id);
    // What no program uses any more is what a companion has left that had no time to tidy up.
    return [{ op: 'unpublish', path, ...(pin !== undefined && { pin }) }];
  });
  const clear: Step[] = isShared ? [{ op: 'tidy', claim: { folder, except: [...except, ...carriedPaths] } }] : [];
  const carry = carriedMaps.flatMap(({ path, pin }): Step[] => {
    const former = pins.get(publicMaps.get(path) ?? 0);
    if (former === pin && !isShared) return [];
    return [{ op: 'publish', pin, path, ...(former !== undefined && { former }) }];
  });
  return [...inTheWay, ...clear, ...carry];
}

function dirname(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
