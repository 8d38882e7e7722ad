import { type CompanionLaunch, companionKey, isAsItShould, startsAlike, toldAlike } from '../../domain/companion.js';
import { type Hook, sharesFolder } from '../../domain/hook.js';
import { isOvertaken, type LoadedProgram, type ObservedHook } from '../../domain/observed.js';
import { type LoadRef, loadDir, mapPin, mapSegment, publicMapPath } from '../../domain/pins.js';
import { contentDigest, isSelfLoaded, type Program, packageOf } from '../../domain/program.js';
import { AgentError } from '../../errors.js';
import type { CaptureStep, Claim, Step } from '../../steps/step.js';
import { carried, type Member } from '../chain/members.js';
import { type HookInput, type Loaders, nextLoad, type PlanContext, type PublicNames } from '../context.js';
import { fillOf, type Inheritance } from '../maps/changes.js';

/*
 * A program without object file is loaded by its companion, which puts the program into a slot. This is not the slot of
 * the live chain. It is a handover slot, made for this purpose. So the program is prepared beside the
 * running ones, like any load, and put in place by the one write that packets notice. Until then the former companion
 * keeps running. It is stopped when its program is out of the chain.
 */

export function launchOf({ hook }: Pick<ObservedHook, 'hook'>, program: Program): CompanionLaunch {
  const { companion, path } = program;
  if (companion === undefined) {
    throw new AgentError('INTERNAL', `${program.name} has neither an object file nor a companion`, { path });
  }
  return { hook, package: packageOf(program), companion };
}

/**
 * Directories of loads that cannot stay although their code is desired. Their companion must be started again or
 * in another way, or it has loaded another program since. A companion that starts loads its program again, and only it
 * knows the maps of the program that it has loaded.
 */
export function staleLoads(
  observed: ObservedHook,
  wanted: readonly Program[],
  { running, except, revivals, chainsOnly }: Loaders,
): ReadonlySet<string> {
  const loaded = wanted.filter((program) => program.enabled && isSelfLoaded(program));
  if (chainsOnly || loaded.length === 0) return new Set();
  const isStale = (standing: LoadedProgram) => {
    const { dir, digest } = standing;
    const program = loaded.find((other) => contentDigest(other) === digest);
    if (program === undefined) return false;
    const launch = launchOf(observed, program);
    const key = companionKey(launch);
    const found = running.find((other) => other.loaded === dir);
    if (except.has(key)) return false;
    if (isOvertaken(standing) || (found !== undefined && !startsAlike(found.launch, launch))) return true;
    if (revivals !== undefined) return revivals.has(key);
    return found === undefined || !isAsItShould(found);
  };
  return new Set(observed.loadedPrograms.filter(isStale).map(({ dir }) => dir));
}

/**
 * The programs that begin anew, with new maps, since their companion is told other things; see {@link beginsAnew}.
 *
 * @param standing what runs at the hook
 */
export function freshPrograms(
  hook: Hook,
  standing: readonly LoadedProgram[],
  wanted: readonly Program[],
  loaders: Loaders,
): ReadonlySet<Program> {
  const own = wanted.filter((program) => program.enabled && !isSelfLoaded(program));
  return new Set(own.filter((program) => beginsAnew(hook, program, standing, loaders)));
}

/**
 * Whether a program begins anew since its companion is told other things: another command, other arguments or rules. As
 * in l3afd, which then loads the program again (`VerifyNUpdateBPFProgram` in its bpfprogs/nfconfig.go). What a companion
 * was told is what it has put into the maps, and nobody else knows which entries those are. Maps in `carry_maps` stay.
 */
export function beginsAnew(
  hook: Hook,
  program: Program,
  standing: readonly Pick<LoadedProgram, 'digest' | 'maps'>[],
  { running, except, chainsOnly }: Loaders,
): boolean {
  const { companion } = program;
  if (chainsOnly || companion === undefined || companion.cmdStart === '') return false;
  const launch = { hook, package: packageOf(program), companion };
  const key = companionKey(launch);
  const found = running.find((other) => other.loaded === undefined && companionKey(other.launch) === key);
  if (found === undefined || except.has(key) || toldAlike(found.launch, launch)) return false;
  const carriedNames = new Set(program.carryMaps.map(mapSegment));
  const digest = contentDigest(program);
  // It holds the maps that were there at its start. If its program has others by now, they are new already.
  const runs = standing.findLast((loaded) => loaded.digest === digest);
  const fed = runs?.maps.filter(({ name }) => !carriedNames.has(name)) ?? [];
  return fed.length > 0 && fed.every(({ id }) => found.maps.includes(id));
}

/**
 * Plans a program that its companion will load. The program gets new maps. Only those in `carry_maps` keep their public
 * names meanwhile, and the companion can take them over by these names.
 *
 * @throws AgentError MAP_NOT_FOUND
 */
export function loadByCompanion(
  program: Program,
  { observed, before, loaders, names = NO_NAMES }: HookInput,
  standing: readonly LoadedProgram[],
  { bpffs }: PlanContext,
): Member {
  const { hook, loadedPrograms } = observed;
  const { name, version, monitors, mapName: slotMap } = program;
  const digest = contentDigest(program);
  const ref = nextLoad({ hook, name, version, digest }, loadedPrograms);
  const dir = loadDir(bpffs, ref);
  const inherited = carriedTo(program, digest, standing);
  const capture: CaptureStep = {
    op: 'capture',
    ref,
    dir,
    slotMap,
    share: (inherited?.maps ?? []).map((map) => ({ map: map.name, pin: mapPin(inherited!.from.dir, map.name) })),
    fill: fillOf(program, inherited?.maps ?? [], before),
    ...(monitors !== undefined && { monitors }),
    claim: claimOf(ref, names, bpffs),
  };
  const launch = launchOf(observed, program);
  const restarts = loaders?.revivals?.get(companionKey(launch))?.restarts ?? 0;
  return { program, dir, inherited, load: undefined, handover: { launch, restarts, capture } };
}

/** A program that is loaded again, perhaps because it has lost a map, takes over the carried maps that still exist. */
function carriedTo(program: Program, digest: string, standing: readonly LoadedProgram[]): Inheritance | undefined {
  const twin = standing.find((other) => other.name === program.name && other.digest === digest);
  if (twin === undefined) return carried(program, standing);
  const names = new Set(program.carryMaps.map(mapSegment));
  return { from: twin, maps: twin.maps.filter(({ name }) => names.has(name)) };
}

const NO_NAMES: PublicNames = { publicMaps: new Map(), pins: new Map() };

/**
 * The steps that let companions load their programs, one after the other.
 *
 * @param like pin of the program that the chain begins with; null if there is none
 */
export function handoverSteps(
  members: readonly Member[],
  like: string | null,
  { names = NO_NAMES }: Pick<HookInput, 'names'>,
  bpffs: string,
): Step[] {
  return members.flatMap(({ handover }): Step[] => {
    if (handover === undefined) return [];
    const { launch, restarts, capture } = handover;
    const { ref, dir } = capture;
    return [
      { op: 'check-companion', launch },
      { op: 'make-handover', ref, dir, like },
      ...namesFor(capture, names, bpffs),
      { op: 'start-companion', launch, dir, restarts, loads: capture.claim },
      capture,
    ];
  });
}

/** The folder of the program's public names, except the foreign names in it. */
function claimOf(ref: LoadRef, { publicMaps, orphans = [], pins }: PublicNames, bpffs: string): Claim {
  const folder = dirname(publicMapPath(bpffs, ref, 'map'));
  const except = [...publicMaps].flatMap(([path, id]) => {
    const isNobodys = orphans.some((map) => map.id === id);
    return path.startsWith(`${folder}/`) && !pins.has(id) && !isNobodys ? [path] : [];
  });
  return { folder, except };
}

/**
 * Prepares the public names that the companion will find. It pins its maps there, or takes over what is already pinned.
 * It must not find the slot of a running program, nor any map that is not carried. TC programs of one name share the
 * folder with those of the other direction (l3afd's paths do not tell them apart). The same command may create names
 * for the other direction, so the folder is cleared once more.
 */
function namesFor(
  { ref, share, claim: { folder, except } }: CaptureStep,
  { publicMaps, pins }: PublicNames,
  bpffs: string,
): Step[] {
  const isShared = sharesFolder(ref.hook);
  const carriedMaps = share.map(({ map, pin }) => ({ path: publicMapPath(bpffs, ref, map), pin }));
  const carriedPaths = carriedMaps.map(({ path }) => path);
  const inTheWay = [...publicMaps].flatMap(([path, id]): Step[] => {
    if (!path.startsWith(`${folder}/`) || except.includes(path) || carriedPaths.includes(path)) return [];
    const pin = pins.get(id);
    // A map that no program uses was left by a companion that had no time to remove its names.
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
