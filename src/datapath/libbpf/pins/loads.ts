import { type ChainHook, hookOf, isAttachPointName } from '../../../domain/hook.js';
import type { LoadedProbes, LoadedProgram, MapInfo } from '../../../domain/observed.js';
import {
  handoverPin,
  MAP_FOLDERS,
  parseLoadName,
  parseProbesName,
  programPin,
  RESERVED_NAMES,
  slotPin,
  targetOfSegment,
} from '../../../domain/pins.js';
import { tryOpenPin } from '../abi/fd.js';
import { mapInfo, programInfo } from '../abi/info.js';
import type { MapLayouts } from '../maps/layouts.js';
import { programInSlot, tryOpenSlot } from '../maps/slot.js';
import { aProbe, mapsOfProbes, readProbes } from '../tracing/probes.js';
import { foldersBelow, pinsBelow, walk } from './pins.js';
import { withUnpinnedMaps } from './unpinned.js';

/*
 * What is pinned below `<bpffs>/progs`, `<bpffs>/links` and under the public names. Paths without the form of our paths
 * are not ours and are ignored.
 */

export interface LoadPlace
  extends Pick<LoadedProgram, 'hook' | 'name' | 'versionSegment' | 'digest' | 'serial' | 'dir'> {}

export function* loadPlaces(bpffs: string): Generator<LoadPlace> {
  for (const path of foldersBelow(`${bpffs}/progs`, 4)) {
    const [target, name, versionSegment, last] = path.split('/') as [string, string, string, string];
    const parsed = parseLoadName(last);
    if (parsed === undefined) continue;
    const { attachPoint, digest, serial } = parsed;
    const hook = hookOf(targetOfSegment(target), attachPoint);
    yield { hook, name, versionSegment, digest, serial, dir: `${bpffs}/progs/${path}` };
  }
}

export function readLoadedProgram(place: LoadPlace, layouts: MapLayouts): LoadedProgram {
  const { dir } = place;
  using program = tryOpenPin('prog', programPin(dir));
  using slot = tryOpenSlot(slotPin(dir));
  using handover = tryOpenSlot(handoverPin(dir));
  const probes = readProbes(dir);
  const loaded = {
    ...place,
    ...(probes.length > 0 && { probes }),
    programId: program === undefined ? undefined : programInfo(program.number).id,
    slot: slot === undefined ? undefined : { mapId: mapInfo(slot.number).id, next: programInSlot(slot.number) },
    ...(handover !== undefined && { handedOver: programInSlot(handover.number) }),
    maps: pinnedMaps(dir, layouts, program?.number),
  };
  return program === undefined ? loaded : withUnpinnedMaps(loaded, program);
}

/** The probes of the host; the newest load of a name comes last. */
export function readLoadedProbes(bpffs: string, layouts: MapLayouts): LoadedProbes[] {
  const found = [...foldersBelow(`${bpffs}/progs/probes`, 3)].flatMap((path): LoadedProbes[] => {
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
export function* linkPins(bpffs: string): Generator<{ hook: ChainHook | undefined; path: string }> {
  for (const path of walk(`${bpffs}/links`, 4)) {
    const [target = '', , , last = ''] = path.split('/');
    const attachPoint = isAttachPointName(last) ? last : parseLoadName(last)?.attachPoint;
    const hook = attachPoint === undefined ? undefined : hookOf(targetOfSegment(target), attachPoint);
    yield { hook, path: `${bpffs}/links/${path}` };
  }
}

/** Paths that have the form of public names, no matter what is pinned there and by whom. */
export function* publicPaths(bpffs: string): Generator<string> {
  for (const target of walk(bpffs, 1)) {
    if (RESERVED_NAMES.includes(target)) continue;
    for (const path of pinsBelow(`${bpffs}/${target}`, 3)) yield `${bpffs}/${target}/${path}`;
  }
  // In other folders foreign maps may exist at this depth, and opening them is expensive.
  for (const target of foldersBelow(`${bpffs}/progs`, 1)) {
    for (const folder of [bpffs, ...MAP_FOLDERS.map((name) => `${bpffs}/${name}`)].map((base) => `${base}/${target}`)) {
      if (target !== 'probes') for (const name of pinsBelow(folder, 1)) yield `${folder}/${name}`;
    }
  }
  for (const path of pinsBelow(`${bpffs}/probes`, 3)) yield `${bpffs}/probes/${path}`;
  for (const folder of MAP_FOLDERS) {
    for (const path of pinsBelow(`${bpffs}/${folder}`, 4)) yield `${bpffs}/${folder}/${path}`;
  }
}

function pinnedMaps(dir: string, layouts: MapLayouts, program: number | undefined): MapInfo[] {
  return [...walk(`${dir}/maps`, 1)].flatMap((name) => readMapPin(`${dir}/maps/${name}`, name, layouts, program));
}

/** Empty for a pin that was removed in the meantime. */
function readMapPin(path: string, name: string, layouts: MapLayouts, program: number | undefined): MapInfo[] {
  using map = tryOpenPin('map', path);
  return map === undefined ? [] : [{ name, ...mapInfo(map.number), ...layouts.of(map.number, name, program) }];
}
