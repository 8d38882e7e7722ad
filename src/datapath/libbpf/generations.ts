import { DIRECTIONS, type Direction, type Hook } from '../../domain/hook.js';
import type { Generation, MapInfo, ProbeGeneration } from '../../domain/observed.js';
import {
  ifaceOfSegment,
  ifaceSegment,
  parseGenerationName,
  parseProbesName,
  programPin,
  RESERVED_IFACE_NAMES,
  slotPin,
  stagePin,
} from '../../domain/pins.js';
import { tryOpenPin } from './fd.js';
import { mapInfo, programInfo } from './info.js';
import { layoutsOf } from './layouts.js';
import { foldersBelow, pinsBelow, walk } from './pins.js';
import { mapsOfProbes, readProbes } from './probes.js';
import { programInSlot, tryOpenSlot } from './slot.js';
import { withUnpinnedMaps } from './unpinned.js';

/*
 * What is pinned below `<bpffs>/progs`, `<bpffs>/links` and under the public names. What does not have the form of our paths is
 * not ours and is passed over.
 */

export interface GenerationPlace
  extends Pick<Generation, 'hook' | 'name' | 'versionSegment' | 'digest' | 'serial' | 'dir'> {}

export function* generationPlaces(bpffs: string): Generator<GenerationPlace> {
  for (const path of foldersBelow(`${bpffs}/progs`, 4)) {
    const [iface, name, versionSegment, last] = path.split('/') as [string, string, string, string];
    const parsed = parseGenerationName(last);
    if (parsed === undefined) continue;
    const { direction, digest, serial } = parsed;
    const hook = { iface: ifaceOfSegment(iface), direction };
    yield { hook, name, versionSegment, digest, serial, dir: `${bpffs}/progs/${path}` };
  }
}

export function readGeneration(place: GenerationPlace): Generation {
  const { dir } = place;
  using program = tryOpenPin('prog', programPin(dir));
  using slot = tryOpenSlot(slotPin(dir));
  using stage = tryOpenSlot(stagePin(dir));
  const probes = readProbes(dir);
  const generation = {
    ...place,
    ...(probes.length > 0 && { probes }),
    programId: program === undefined ? undefined : programInfo(program.number).id,
    slot: slot === undefined ? undefined : { mapId: mapInfo(slot.number).id, next: programInSlot(slot.number) },
    ...(stage !== undefined && { staged: programInSlot(stage.number) }),
    maps: readMaps(dir),
  };
  return program === undefined ? generation : withUnpinnedMaps(generation, program);
}

/** The probes of the host, the newest load of a name last. */
export function readProbeGenerations(bpffs: string): ProbeGeneration[] {
  const found = [...foldersBelow(`${bpffs}/progs/probes`, 3)].flatMap((path): ProbeGeneration[] => {
    const [name, versionSegment, last] = path.split('/') as [string, string, string];
    const parsed = parseProbesName(last);
    if (parsed === undefined) return [];
    const dir = `${bpffs}/progs/probes/${path}`;
    const maps = readMaps(dir);
    const pinned = new Set(maps.map(({ id }) => id));
    const used = mapsOfProbes(dir);
    const lostMaps = [...used].filter((id) => !pinned.has(id));
    // What stands in the place of a lost one is nobody's table to keep; without that, one that no probe uses is ours all the same.
    const own = lostMaps.length === 0 ? maps : maps.filter(({ id }) => used.has(id));
    return [{ name, versionSegment, ...parsed, dir, probes: readProbes(dir), maps: own, lostMaps }];
  });
  return found.toSorted((a, b) => a.serial - b.serial);
}

/** Ids of the programs that are pinned as ours for an interface. */
export function ownProgramIds(bpffs: string, iface: string): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const path of foldersBelow(`${bpffs}/progs/${ifaceSegment(iface)}`, 3)) {
    if (parseGenerationName(path.slice(path.lastIndexOf('/') + 1)) === undefined) continue;
    using program = tryOpenPin('prog', programPin(`${bpffs}/progs/${ifaceSegment(iface)}/${path}`));
    if (program !== undefined) ids.add(programInfo(program.number).id);
  }
  return ids;
}

/** Paths at which links of ours are pinned, with the hook that each is for. */
export function* linkPins(bpffs: string): Generator<{ hook: Hook; path: string }> {
  for (const path of walk(`${bpffs}/links`, 4)) {
    const [iface = '', , , last = ''] = path.split('/');
    const direction = isDirection(last) ? last : parseGenerationName(last)?.direction;
    if (direction === undefined) continue;
    yield { hook: { iface: ifaceOfSegment(iface), direction }, path: `${bpffs}/links/${path}` };
  }
}

/** Paths of the public layout, whatever is pinned there and whoever pinned it. */
export function* publicPaths(bpffs: string): Generator<string> {
  for (const iface of walk(bpffs, 1)) {
    if (RESERVED_IFACE_NAMES.includes(iface)) continue;
    for (const path of pinsBelow(`${bpffs}/${iface}`, 3)) yield `${bpffs}/${iface}/${path}`;
  }
  // Elsewhere others may have maps at that depth, and looking at them costs.
  for (const iface of foldersBelow(`${bpffs}/progs`, 1)) {
    for (const folder of [`${bpffs}/${iface}`, `${bpffs}/tc/globals/${iface}`]) {
      if (iface !== 'probes') for (const name of pinsBelow(folder, 1)) yield `${folder}/${name}`;
    }
  }
  for (const path of pinsBelow(`${bpffs}/probes`, 3)) yield `${bpffs}/probes/${path}`;
  for (const path of pinsBelow(`${bpffs}/tc/globals`, 4)) yield `${bpffs}/tc/globals/${path}`;
}

function readMaps(dir: string): MapInfo[] {
  return [...walk(`${dir}/maps`, 1)].flatMap((name) => readMapPin(`${dir}/maps/${name}`, name));
}

/** Nothing for a pin that went away meanwhile. */
function readMapPin(path: string, name: string): MapInfo[] {
  using map = tryOpenPin('map', path);
  return map === undefined ? [] : [{ name, ...mapInfo(map.number), ...layoutsOf(map.number) }];
}

function isDirection(name: string): name is Direction {
  return (DIRECTIONS as readonly string[]).includes(name);
}
