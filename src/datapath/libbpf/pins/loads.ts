import { type ChainHook, hookOf, isAttachPointName } from '../../../domain/hook.js';
import { PROG_ARRAY } from '../../../domain/map-types.js';
import type { LoadedProbes, LoadedProgram, MapInfo } from '../../../domain/observed.js';
import {
  handoverPin,
  MAP_FOLDERS,
  mapsFolder,
  parseLoadName,
  parseProbesName,
  probesFolder,
  programPin,
  RESERVED_NAMES,
  slotPin,
  targetOfSegment,
} from '../../../domain/pins.js';
import { tryOpenAny, tryOpenPin } from '../abi/fd.js';
import { mapInfo, programInfo } from '../abi/info.js';
import type { MapLayouts } from '../maps/layouts.js';
import { programInSlot, tryOpenSlot } from '../maps/slot.js';
import { aProbe, mapsOfProbes, readProbes } from '../tracing/probes.js';
import { type Folders, foldersBelow, pinsBelow, UNWATCHED_FOLDERS, walk } from './pins.js';
import { Remembered } from './remembered.js';
import { unpinnedMaps } from './unpinned.js';

/*
 * What is pinned below `<bpffs>/progs`, `<bpffs>/links` and under the public names. Paths without the form of our paths
 * are not ours and are ignored.
 */

export interface LoadPlace
  extends Pick<LoadedProgram, 'hook' | 'name' | 'versionSegment' | 'digest' | 'serial' | 'dir'> {}

export function* loadPlaces(bpffs: string, folders = UNWATCHED_FOLDERS): Generator<LoadPlace> {
  for (const path of foldersBelow(`${bpffs}/progs`, 4, folders)) {
    const [target, name, versionSegment, last] = path.split('/') as [string, string, string, string];
    const parsed = parseLoadName(last);
    if (parsed === undefined) continue;
    const { attachPoint, digest, serial } = parsed;
    const hook = hookOf(targetOfSegment(target), attachPoint);
    yield { hook, name, versionSegment, digest, serial, dir: `${bpffs}/progs/${path}` };
  }
}

/** What of a load does not change as long as its pins are the same; the content of slots does. */
interface FixedLoad extends Pick<LoadedProgram, 'programId' | 'maps' | 'unpinned'> {
  /** Ids of the maps that are pinned as its slot and as its handover slot. */
  readonly slot: number | undefined;
  readonly handover: number | undefined;
  readonly hasProbes: boolean;
}

/** Reads loads. What cannot have changed is read once. */
export class LoadReader {
  readonly #folders: Folders;
  readonly #layouts: MapLayouts;
  readonly #known = new Remembered<FixedLoad>();

  constructor(folders: Folders, layouts: MapLayouts) {
    this.#folders = folders;
    this.#layouts = layouts;
  }

  /** Begins a look. */
  refresh(): void {
    this.#known.refresh();
  }

  read(place: LoadPlace): LoadedProgram {
    const { dir } = place;
    const listings = [this.#folders.entriesOf(dir), this.#folders.entriesOf(mapsFolder(dir))];
    const fixed = this.#known.of(dir, listings, () => this.#readFixed(place));
    const slot = fixed.slot === undefined ? undefined : nextIn(slotPin(dir), fixed.slot);
    const handedOver = fixed.handover === undefined ? undefined : nextIn(handoverPin(dir), fixed.handover);
    const probes = fixed.hasProbes ? readProbes(dir) : [];
    return {
      ...place,
      ...(probes.length > 0 && { probes }),
      programId: fixed.programId,
      slot,
      ...(handedOver !== undefined && { handedOver: handedOver.next }),
      maps: fixed.maps,
      ...(fixed.unpinned !== undefined && { unpinned: fixed.unpinned }),
    };
  }

  #readFixed(place: LoadPlace): FixedLoad {
    const { dir } = place;
    using program = tryOpenPin('prog', programPin(dir));
    using slot = tryOpenSlot(slotPin(dir));
    using handover = tryOpenSlot(handoverPin(dir));
    const slotId = slot === undefined ? undefined : mapInfo(slot.number).id;
    const maps = pinnedMaps(dir, this.#layouts, program?.number);
    const lost = program === undefined ? [] : unpinnedMaps({ slot: slotId, maps }, program);
    return {
      programId: program === undefined ? undefined : programInfo(program.number).id,
      slot: slotId,
      handover: handover === undefined ? undefined : mapInfo(handover.number).id,
      hasProbes: this.#folders.entriesOf(dir).some(({ name }) => `${dir}/${name}` === probesFolder(dir)),
      maps,
      ...(lost.length > 0 && { unpinned: { program: false, maps: lost } }),
    };
  }
}

/**
 * What a slot contains now; undefined if its pin was removed or replaced in the meantime.
 *
 * @throws AgentError KERNEL if it cannot be opened: a slot that seems to be lost would be loaded again
 */
function nextIn(pin: string, mapId: number): LoadedProgram['slot'] {
  using slot = tryOpenAny(pin);
  if (slot === undefined) return undefined;
  const info = mapInfo(slot.number);
  // The id and the type together tell that it is the same map, so its values have the expected size.
  return info.id === mapId && info.type === PROG_ARRAY ? { mapId, next: programInSlot(slot.number) } : undefined;
}

/** The probes of the host; the newest load of a name comes last. */
export function readLoadedProbes(bpffs: string, layouts: MapLayouts, folders = UNWATCHED_FOLDERS): LoadedProbes[] {
  const found = [...foldersBelow(`${bpffs}/progs/probes`, 3, folders)].flatMap((path): LoadedProbes[] => {
    const [name, versionSegment, last] = path.split('/') as [string, string, string];
    const parsed = parseProbesName(last);
    if (parsed === undefined) return [];
    const dir = `${bpffs}/progs/probes/${path}`;
    using program = aProbe(dir);
    const maps = pinnedMaps(dir, layouts, program?.number);
    const pinned = new Set(maps.map(({ id }) => id));
    const used = mapsOfProbes(dir);
    const lostMaps = [...used].filter((id) => !pinned.has(id));
    // If maps were lost, a pinned map that no probe uses is not ours: it may have taken a lost one's place. If none
    // were lost, it is ours.
    const own = lostMaps.length === 0 ? maps : maps.filter(({ id }) => used.has(id));
    return [{ name, versionSegment, ...parsed, dir, probes: readProbes(dir), maps: own, lostMaps }];
  });
  return found.toSorted((a, b) => a.serial - b.serial);
}

/** Ids of the programs of chains that we have pinned, at whatever hook: interfaces can be renamed. */
export function ownProgramIds(bpffs: string): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const { dir } of loadPlaces(bpffs)) {
    using program = tryOpenPin('prog', programPin(dir));
    if (program !== undefined) ids.add(programInfo(program.number).id);
  }
  return ids;
}

/** Paths of our pinned links, each with its hook; undefined for a name that is no attach point. */
export function* linkPins(
  bpffs: string,
  folders = UNWATCHED_FOLDERS,
): Generator<{ hook: ChainHook | undefined; path: string }> {
  for (const path of walk(`${bpffs}/links`, 4, folders)) {
    const [target = '', , , last = ''] = path.split('/');
    const attachPoint = isAttachPointName(last) ? last : parseLoadName(last)?.attachPoint;
    const hook = attachPoint === undefined ? undefined : hookOf(targetOfSegment(target), attachPoint);
    yield { hook, path: `${bpffs}/links/${path}` };
  }
}

/** Paths that have the form of public names, no matter what is pinned there and by whom. */
export function* publicPaths(bpffs: string, folders = UNWATCHED_FOLDERS): Generator<string> {
  for (const target of walk(bpffs, 1, folders)) {
    if (RESERVED_NAMES.includes(target)) continue;
    for (const path of pinsBelow(`${bpffs}/${target}`, 3, folders)) yield `${bpffs}/${target}/${path}`;
  }
  // In other folders foreign maps may exist at this depth, and opening them is expensive.
  for (const target of foldersBelow(`${bpffs}/progs`, 1, folders)) {
    for (const folder of [bpffs, ...MAP_FOLDERS.map((name) => `${bpffs}/${name}`)].map((base) => `${base}/${target}`)) {
      if (target !== 'probes') for (const name of pinsBelow(folder, 1, folders)) yield `${folder}/${name}`;
    }
  }
  for (const path of pinsBelow(`${bpffs}/probes`, 3, folders)) yield `${bpffs}/probes/${path}`;
  for (const folder of MAP_FOLDERS) {
    for (const path of pinsBelow(`${bpffs}/${folder}`, 4, folders)) yield `${bpffs}/${folder}/${path}`;
  }
}

function pinnedMaps(dir: string, layouts: MapLayouts, program: number | undefined): MapInfo[] {
  const folder = mapsFolder(dir);
  return [...walk(folder, 1)].flatMap((name) => readMapPin(`${folder}/${name}`, name, layouts, program));
}

/** Empty for a pin that was removed in the meantime. */
function readMapPin(path: string, name: string, layouts: MapLayouts, program: number | undefined): MapInfo[] {
  using map = tryOpenPin('map', path);
  return map === undefined ? [] : [{ name, ...mapInfo(map.number), ...layouts.of(map.number, name, program) }];
}
