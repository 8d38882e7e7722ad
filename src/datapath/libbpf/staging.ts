import { type Hook, hookKey, programKind } from '../../domain/hook.js';
import { encodeMapArgs, PROG_ARRAY } from '../../domain/mapvalue.js';
import { checkMonitors } from '../../domain/monitor.js';
import type { MapInfo } from '../../domain/observed.js';
import { mapPin, mapSegment, programPin, slotPin, stagePin } from '../../domain/pins.js';
import type { Claim } from '../../domain/step.js';
import { AgentError } from '../../errors.js';
import type { CaptureRequest, MapChange } from '../datapath.js';
import { check } from './errno.js';
import { Fd, openPin, tryOpenId, tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { generationPlaces, readGeneration } from './generations.js';
import { grace } from './grace.js';
import { mapIdsOf, mapInfo, programInfo } from './info.js';
import { declaredName, layoutsOf } from './layouts.js';
import { PROGRAM_TYPE } from './load.js';
import { applyChange, inverse } from './maps.js';
import { makeInPlace, makeNewDir, pin, pinInPlace, pinsBelow, removeTree, unpin } from './pins.js';
import { emptySlot, programInSlot, putIntoSlot, tryOpenSlot } from './slot.js';

/*
 * Programs that their companions load: the agent makes a slot for each, and takes over what is put there.
 */

const SLOT_SIZES = [4, 4, 1] as const;

/** See `Datapath.stage`. */
export function stage(dir: string, like: string | null, bpffs: string): void {
  using slot = new Fd(
    check(libbpf().bpf_map_create(PROG_ARRAY, 'stage', ...SLOT_SIZES, null), 'Cannot make a slot for a companion'),
  );
  if (like !== null) {
    // The first program that is put into a PROG_ARRAY says what all others have to be like (bpf_prog_map_compatible in kernel/bpf/core.c).
    using program = openPin('prog', like);
    putIntoSlot(slot.number, program.number, `Cannot put ${like} into the slot for a companion`);
    emptySlot(slot.number, 'Cannot empty the slot for a companion');
  }
  makeNewDir(dir, bpffs);
  try {
    pin(slot.number, stagePin(dir));
  } catch (error) {
    removeTree(dir, bpffs);
    throw error;
  }
}

/** See `Datapath.staged`. */
export function staged(dir: string): number | null {
  using slot = tryOpenSlot(stagePin(dir));
  return slot === undefined ? null : programInSlot(slot.number);
}

/** See `Datapath.capture`. */
export async function capture(request: CaptureRequest, bpffs: string): Promise<void> {
  const { dir, hook } = request;
  const programId = staged(dir);
  if (programId === null) {
    throw new AgentError('LOAD_FAILED', `The companion has put no program into ${stagePin(dir)}`);
  }
  using program = tryOpenId('prog', programId);
  if (program === undefined) throw new AgentError('LOAD_FAILED', `Program ${programId}, which it had loaded, is gone`);
  checkType(programInfo(program.number), hook);
  // A companion that has ended was the last user of its slot unless it has pinned it, and then the kernel empties it in the background.
  await grace();
  const maps = mapsOf(program, request, bpffs);
  try {
    const undo: (() => void)[] = [];
    try {
      take(request, program, maps, bpffs, undo);
    } catch (error) {
      for (const step of undo.toReversed()) step();
      throw error;
    }
  } finally {
    for (const { fd } of maps) fd[Symbol.dispose]();
  }
}

/** A map of the program, opened. */
interface UsedMap {
  readonly fd: Fd;
  readonly info: MapInfo;
  /** False for one that the companion has only pinned among those of the program. */
  readonly isUsed: boolean;
}

function take(
  request: CaptureRequest,
  program: Fd,
  maps: readonly UsedMap[],
  bpffs: string,
  undo: (() => void)[],
): void {
  const { dir, monitors } = request;
  const slot = slotOf(request, maps, bpffs);
  const data = maps.filter((map) => map !== slot);
  checkShared(request, data);
  const infos = data.map(({ info }) => info);
  const changes = changesOf(request, data);
  checkMonitors(infos, monitors, '');
  for (const { map, change } of changes) {
    const open = { fd: map.fd.number, info: map.info };
    const before = inverse(open, change);
    applyChange(open, change);
    undo.push(() => applyChange(open, before));
  }
  const keep = (fd: Fd, path: string) => {
    pinInPlace(fd.number, path);
    undo.push(() => unpin(path, dir));
  };
  if (slot !== undefined) {
    emptySlot(slot.fd.number, 'Cannot empty the slot of the program');
    keep(slot.fd, slotPin(dir));
  }
  makeInPlace(`${dir}/maps`);
  undo.push(() => removeTree(`${dir}/maps`, dir));
  for (const { fd, info } of data) keep(fd, mapPin(dir, info.name));
  // Last of all: a directory without a program is a torso that nothing relies on.
  keep(program, programPin(dir));
}

function checkType({ id, type, name }: { id: number; type: number; name: string }, hook: Hook): void {
  const kind = programKind(hook.direction);
  if (type === PROGRAM_TYPE[kind].type) return;
  const message = `Program ${id} (${name}) that the companion has loaded is of type ${type}`;
  throw new AgentError(
    'LOAD_FAILED',
    `${message}; at ${hookKey(hook)} it has to be of type ${PROGRAM_TYPE[kind].type}`,
  );
}

/** Each under the name that its object gives it, as far as that can be told: the kernel keeps 15 characters of it. */
function mapsOf(program: Fd, request: CaptureRequest, bpffs: string): UsedMap[] {
  const pinned = claimedNames(request.claim);
  // An object may have maps that no program of it uses; those that the companion has pinned belong to it all the same.
  const used = mapIdsOf(program.number);
  const taken = mapsOfOthers(request.dir, bpffs);
  const rest = [...pinned.keys()].filter((id) => !used.has(id) && !taken.has(id));
  // Those that it uses come first, so that no other has a name of theirs.
  const ids = [used, rest].flatMap((some) => [...some].toSorted((a, b) => a - b));
  const opened = ids.flatMap((id) => tryOpenId('map', id) ?? []);
  const cut = opened.map((fd) => declaredName(fd.number));
  const names = new Set<string>();
  return opened.map((fd, index): UsedMap => {
    const info = mapInfo(fd.number);
    const isAlone = cut.filter((other) => other === cut[index]).length === 1;
    const name = pinned.get(info.id) ?? fullName(cut[index]!, info, isAlone, request);
    const free = freeName(mapSegment(name), names);
    names.add(free);
    return { fd, info: { name: free, ...info, ...layoutsOf(fd.number) }, isUsed: used.has(info.id) };
  });
}

const LONGEST_NAME = 15;

/** The one that was asked for and that the kernel would have cut to this. Which of several is meant only the slot's kind can tell. */
function fullName(
  cut: string,
  info: Pick<MapInfo, 'type' | 'maxEntries'>,
  isAlone: boolean,
  { slotMap, fill, monitors = [], share }: CaptureRequest,
): string {
  if (cut.length < LONGEST_NAME) return cut;
  if (isSlot(info)) return slotMap.startsWith(cut) ? slotMap : cut;
  const told = [...fill.map(({ name }) => name), ...monitors.map(({ name }) => name), ...share.map(({ map }) => map)];
  const meant = told.find((name) => name.startsWith(cut));
  return isAlone && meant !== undefined ? meant : cut;
}

function isSlot({ type, maxEntries }: Pick<MapInfo, 'type' | 'maxEntries'>): boolean {
  return type === PROG_ARRAY && maxEntries === 1;
}

/** Names that are alike once they are cut are told apart by a number, in the order in which the maps were made. */
function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 2; ; number += 1) {
    const free = number === 2 && !taken.has(name) ? name : `${name}-${number}`;
    if (!taken.has(free)) return free;
  }
}

/** What the companion has pinned itself where the program's maps have their public names: map id to name. */
function claimedNames({ folder, except }: Claim): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const entry of pinsBelow(folder, 1)) {
    using found = except.includes(`${folder}/${entry}`) ? undefined : tryOpenPin('map', `${folder}/${entry}`);
    if (found !== undefined) names.set(mapInfo(found.number).id, entry);
  }
  return names;
}

/** Ids of the maps of all other generations, slots among them: a companion may have given them further names. */
function mapsOfOthers(dir: string, bpffs: string): ReadonlySet<number> {
  const others = [...generationPlaces(bpffs)].filter((place) => place.dir !== dir).map(readGeneration);
  return new Set(
    others.flatMap(({ slot, maps }) => [...(slot === undefined ? [] : [slot.mapId]), ...maps.map(({ id }) => id)]),
  );
}

/** @throws AgentError SLOT_INVALID */
function slotOf({ dir, slotMap }: CaptureRequest, maps: readonly UsedMap[], bpffs: string): UsedMap | undefined {
  if (slotMap === '') return undefined;
  const slot = maps.find(({ info, isUsed }) => isUsed && info.name === mapSegment(slotMap));
  if (slot === undefined) {
    const there = maps.map(({ info }) => info.name).join(', ') || 'none';
    const message = `The program uses no map ${slotMap} that could be its slot; it uses ${there}`;
    throw new AgentError('SLOT_INVALID', `${message}. One that goes on to no other program is to be without map_name`);
  }
  const { type, maxEntries, id } = slot.info;
  if (!isSlot(slot.info)) {
    const what = type === PROG_ARRAY ? `a PROG_ARRAY with ${maxEntries} entries` : `of map type ${type}`;
    throw new AgentError('SLOT_INVALID', `The slot ${slotMap} is ${what}; expected a PROG_ARRAY with one entry`);
  }
  for (const { dir: other } of generationPlaces(bpffs)) {
    using theirs = tryOpenSlot(other === dir ? stagePin(dir) : slotPin(other));
    if (theirs === undefined || mapInfo(theirs.number).id !== id) continue;
    const whose =
      other === dir ? 'that it was given to put its program into' : `of a program that runs, pinned in ${other}`;
    const message = `The companion has taken as slot ${slotMap} the one ${whose}`;
    throw new AgentError('SLOT_INVALID', `${message}; each program that it loads needs one of its own`);
  }
  return slot;
}

/** @throws AgentError MAP_INCOMPATIBLE */
function checkShared({ share }: CaptureRequest, maps: readonly UsedMap[]): void {
  for (const { map, pin: path } of share) {
    using wanted = tryOpenPin('map', path);
    const id = wanted === undefined ? undefined : mapInfo(wanted.number).id;
    if (maps.some(({ info }) => info.id === id)) continue;
    const message = `The companion has not taken over the map ${map}, which carry_maps asks for`;
    throw new AgentError('MAP_INCOMPATIBLE', `${message}: it was to use the one that it found under its public name`);
  }
}

/** @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID */
function changesOf({ fill }: CaptureRequest, maps: readonly UsedMap[]): { map: UsedMap; change: MapChange }[] {
  return fill.map((args) => {
    const map = maps.find(({ info }) => info.name === mapSegment(args.name));
    if (map === undefined) {
      const there = maps.map(({ info }) => info.name).join(', ') || 'none';
      const message = `The program that the companion has loaded uses no map ${args.name}; it uses ${there}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${args.path}.name` });
    }
    return { map, change: { set: encodeMapArgs(map.info, args, args.path), remove: [] } };
  });
}
