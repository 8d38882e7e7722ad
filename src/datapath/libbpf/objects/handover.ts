import { type ChainHook, hookKey } from '../../../domain/hook.js';
import { PROG_ARRAY } from '../../../domain/map-types.js';
import { fillingOf, isConstant, named, namesThere } from '../../../domain/mapvalue.js';
import { checkMonitors, keysToMake } from '../../../domain/monitor.js';
import type { MapInfo } from '../../../domain/observed.js';
import { handoverPin, mapPin, mapSegment, mapsFolder, programPin, slotPin } from '../../../domain/pins.js';
import { AgentError } from '../../../errors.js';
import type { Claim } from '../../../steps/step.js';
import type { CaptureRequest, MapChange } from '../../datapath.js';
import { type Fd, openPin, tryOpenId, tryOpenPin } from '../abi/fd.js';
import { mapIdsOf, mapInfo, programInfo } from '../abi/info.js';
import { interfaces } from '../abi/interfaces.js';
import { ATTACH_DRIVERS } from '../attach/drivers.js';
import { declaredName, type MapLayouts } from '../maps/layouts.js';
import { applyChange, inverse } from '../maps/maps.js';
import { emptySlot, makeSlot, programInSlot, putIntoSlot, tryOpenSlot } from '../maps/slot.js';
import { LoadReader, loadPlaces } from '../pins/loads.js';
import {
  makeInPlace,
  makeNewDir,
  pin,
  pinInPlace,
  pinsBelow,
  removeTree,
  UNWATCHED_FOLDERS,
  unpin,
} from '../pins/pins.js';
import { grace } from './grace.js';

/*
 * Programs that are loaded by their companions. The agent makes a handover slot for each, and takes over the program
 * that is put there.
 */

/** See `Datapath.makeHandover`. */
export function makeHandover(dir: string, like: string | null, bpffs: string): void {
  using slot = makeSlot('stage', 'Cannot make a slot for a companion');
  if (like !== null) {
    // The first program in a PROG_ARRAY determines what all later ones must be like (bpf_prog_map_compatible in
    // kernel/bpf/core.c).
    using program = openPin('prog', like);
    putIntoSlot(slot.number, program.number, `Cannot put ${like} into the slot for a companion`);
    emptySlot(slot.number, 'Cannot empty the slot for a companion');
  }
  makeNewDir(dir, bpffs);
  try {
    pin(slot.number, handoverPin(dir));
  } catch (error) {
    removeTree(dir, bpffs);
    throw error;
  }
}

/** See `Datapath.handedOver`. */
export function handedOver(dir: string): number | null {
  using slot = tryOpenSlot(handoverPin(dir));
  return slot === undefined ? null : programInSlot(slot.number);
}

/** See `Datapath.capture`. */
export async function capture(request: CaptureRequest, bpffs: string, layouts: MapLayouts): Promise<void> {
  const { dir, hook } = request;
  const programId = handedOver(dir);
  if (programId === null) {
    throw new AgentError('LOAD_FAILED', `The companion has put no program into ${handoverPin(dir)}`);
  }
  using program = tryOpenId('prog', programId);
  if (program === undefined)
    throw new AgentError('LOAD_FAILED', `Program ${programId}, which the companion loaded, is gone`);
  checkType(programInfo(program.number), hook);
  // If the companion has ended without pinning its slot, nobody uses the slot any more, and the kernel empties it in
  // the background.
  await grace();
  const maps = mapsOf(program, request, bpffs, layouts);
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
  /** False for a map that the program does not use but that the companion has pinned with its maps. */
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
  checkMonitors(infos, monitors, '');
  const made = keysToMake(infos, monitors).map(({ map: info, keys: make }) => {
    return { map: data.find((one) => one.info === info)!, change: { set: [], remove: [], make } };
  });
  const changes = [...changesOf(request, data), ...made];
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
  makeInPlace(mapsFolder(dir));
  undo.push(() => removeTree(mapsFolder(dir), dir));
  for (const { fd, info } of data) keep(fd, mapPin(dir, info.name));
  // Last of all: nothing relies on an incomplete directory without a program.
  keep(program, programPin(dir));
}

function checkType({ id, type, name }: { id: number; type: number; name: string }, hook: ChainHook): void {
  const { program } = ATTACH_DRIVERS[hook.direction];
  if (type === program.type) return;
  const message = `Program ${id} (${name}) that the companion has loaded is of type ${type}`;
  throw new AgentError('LOAD_FAILED', `${message}; at ${hookKey(hook)} it has to be of type ${program.type}`);
}

/** Each map under the name in its object, as far as it can be determined: the kernel keeps only 15 characters. */
function mapsOf(program: Fd, request: CaptureRequest, bpffs: string, layouts: MapLayouts): UsedMap[] {
  const pinned = claimedNames(request.claim);
  // An object may have maps that none of its programs uses. They belong to it if the companion has pinned them.
  const used = mapIdsOf(program.number);
  const taken = mapsOfOthers(request.dir, bpffs, layouts);
  const rest = [...pinned.keys()].filter((id) => !used.has(id) && !taken.has(id));
  // Used maps come first, so that no other map takes one of their names.
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
    return {
      fd,
      info: { name: free, ...info, ...layouts.of(fd.number, free, program.number) },
      isUsed: used.has(info.id),
    };
  });
}

const LONGEST_NAME = 15;

/**
 * The requested name that the kernel would truncate to this one. If there are several, only the slot can be recognized,
 * by its type.
 */
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

/** Equal truncated names are distinguished by a number, in the order in which the maps were created. */
function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 2; ; number += 1) {
    const free = number === 2 && !taken.has(name) ? name : `${name}-${number}`;
    if (!taken.has(free)) return free;
  }
}

/** Maps that the companion itself has pinned where the program's maps have their public names: map id to name. */
function claimedNames({ folder, except }: Claim): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const entry of pinsBelow(folder, 1)) {
    using found = except.includes(`${folder}/${entry}`) ? undefined : tryOpenPin('map', `${folder}/${entry}`);
    if (found !== undefined) names.set(mapInfo(found.number).id, entry);
  }
  return names;
}

/**
 * Ids of the maps of all other loads, including slots: a companion may have pinned them again under other names.
 */
function mapsOfOthers(dir: string, bpffs: string, layouts: MapLayouts): ReadonlySet<number> {
  const reader = new LoadReader(UNWATCHED_FOLDERS, layouts);
  const others = [...loadPlaces(bpffs)].filter((place) => place.dir !== dir).map((place) => reader.read(place));
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
    throw new AgentError('SLOT_INVALID', `${message}. If the program calls no next program, remove its map_name`);
  }
  const { type, maxEntries, id } = slot.info;
  if (!isSlot(slot.info)) {
    const what = type === PROG_ARRAY ? `a PROG_ARRAY with ${maxEntries} entries` : `of map type ${type}`;
    throw new AgentError('SLOT_INVALID', `The slot ${slotMap} is ${what}; expected a PROG_ARRAY with one entry`);
  }
  for (const { dir: other } of loadPlaces(bpffs)) {
    using theirs = tryOpenSlot(other === dir ? handoverPin(dir) : slotPin(other));
    if (theirs === undefined || mapInfo(theirs.number).id !== id) continue;
    const whose = other === dir ? 'into which it had to put its program' : `of a running program, pinned in ${other}`;
    const message = `The companion has used as slot ${slotMap} the slot ${whose}`;
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
    const message = `The companion does not use the map ${map} of the running version, which carry_maps requires`;
    throw new AgentError('MAP_INCOMPATIBLE', `${message}: it must open the map that exists under its public name`);
  }
}

/** @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID */
function changesOf({ fill }: CaptureRequest, maps: readonly UsedMap[]): { map: UsedMap; change: MapChange }[] {
  return fill.map((args) => {
    const found = named(
      maps.map(({ info }) => info),
      args.name,
    );
    const map = maps.find(({ info }) => info === found?.map);
    if (map === undefined) {
      const there = namesThere(maps.map(({ info }) => info));
      const message = `The program that the companion has loaded uses no map ${args.name}; it uses ${there}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${args.path}.name` });
    }
    if (isConstant(map.info)) {
      const message = `${args.name} is fixed when the program is loaded, which its companion has done`;
      throw new AgentError('MAP_VALUE_INVALID', `${message}; let the companion set it`, { path: `${args.path}.name` });
    }
    return { map, change: { set: fillingOf(map.info, args, interfaces()), remove: [] } };
  });
}
