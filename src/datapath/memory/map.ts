import { availableParallelism } from 'node:os';
import { isArrayKind, isPerCpuKind, PROG_ARRAY } from '../../domain/map-types.js';
import {
  fillingOf,
  type Interfaces,
  type MapShape,
  named,
  namesThere,
  perCpuValueSize,
  SECTION_KEY,
} from '../../domain/mapvalue.js';
import { checkMonitors, keysToMake } from '../../domain/monitor.js';
import type { MapInfo } from '../../domain/observed.js';
import { mapPin, mapSegment } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import type { LoadRequest, MapChange, MapRead, MapReading } from '../datapath.js';
import type { GlobalData, MemoryObject } from './object.js';

/** A map of the datapath without a kernel. */
export interface MemoryMap {
  readonly id: number;
  readonly declared: MapShape;
  /** Key to value, in hexadecimal, as user space would read them from the kernel. */
  readonly entries: Map<string, string>;
}

export function infoOf({ id, declared }: MemoryMap): MapInfo {
  return { ...shapeOf(declared), id };
}

/** The data maps that are pinned below each directory. */
export function mapsByDir(pins: ReadonlyMap<string, object>): ReadonlyMap<string, readonly MapInfo[]> {
  const byDir = new Map<string, MapInfo[]>();
  for (const [path, map] of pins) {
    const [end, start] = [path.lastIndexOf('/'), path.lastIndexOf('/maps/')];
    if (start === -1 || start + '/maps'.length !== end) continue;
    const dir = path.slice(0, start);
    const maps = byDir.get(dir) ?? [];
    byDir.set(dir, maps);
    maps.push({ ...infoOf(map as MemoryMap), name: path.slice(end + 1) });
  }
  return byDir;
}

/** The map as declared, and the number of CPUs that have values. */
function shapeOf(declared: MapShape): MapShape {
  return isPerCpuKind(declared.type) ? { ...declared, cpus: availableParallelism() } : declared;
}

/** @property byName maps that are shared with other hooks, since they ask to be pinned by their name */
type MapsRequest = Pick<LoadRequest, 'share' | 'fill' | 'monitors' | 'probes'> & {
  readonly byName?: LoadRequest['share'];
};

/**
 * The data maps of a load: those that it shares, and new ones with their entries.
 *
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
 */
export function makeMaps(
  declared: readonly MapShape[],
  globals: readonly GlobalData[],
  { share, byName = [], probes, ...filling }: MapsRequest,
  taken: (pin: string) => MemoryMap,
  nextId: () => number,
  interfaces: Interfaces,
): MemoryMap[] {
  const shapes = [...declared, ...globals.map(({ shape }) => shape)];
  const missing = share.find(({ map }) => !shapes.some(({ name }) => mapSegment(name) === mapSegment(map)));
  if (missing !== undefined) throw new AgentError('MAP_NOT_FOUND', `The object has no map ${missing.map} to share`);
  const among = (all: LoadRequest['share'], name: string) =>
    all.find(({ map }) => mapSegment(map) === mapSegment(name));
  const maps = shapes.map((shape): MemoryMap => {
    const source = among([...share, ...byName], shape.name);
    if (source !== undefined) return taken(source.pin);
    const initial = globals.find((one) => one.shape === shape)?.initial;
    const entries = new Map(initial === undefined ? [] : [[SECTION_KEY, initial.toString('hex')] as const]);
    return { id: nextId(), declared: shape, entries };
  });
  // A load that is only tried leaves the maps alone that it shares by name.
  const left = probes === 'load' ? [...share, ...byName] : share;
  fillMaps(maps, filling, interfaces, ({ declared: { name } }) => among(left, name) === undefined);
  return maps;
}

/** The maps that a load shares with other hooks; see `LoadRequest.otherSides`. */
export function sharedByName(
  declared: readonly MapShape[],
  { pinnedByName }: Pick<MemoryObject, 'pinnedByName'>,
  { share, otherSides = [], fill }: Pick<LoadRequest, 'share' | 'otherSides' | 'fill'>,
  pinned: (pin: string) => MemoryMap | undefined,
): LoadRequest['share'] {
  const own = new Set([...share.map(({ map }) => mapSegment(map)), ...fill.map(({ name }) => mapSegment(name))]);
  return declared
    .filter(({ name, type }) => pinnedByName.has(name) && type !== PROG_ARRAY && !own.has(mapSegment(name)))
    .flatMap((shape) => {
      const pin = otherSides
        .map((side) => mapPin(side, shape.name))
        .find((path) => isAlike(shape, pinned(path)?.declared));
      return pin === undefined ? [] : [{ map: shape.name, pin }];
    });
}

function isAlike(wanted: MapShape, found: MapShape | undefined): boolean {
  if (found === undefined) return false;
  return (['type', 'keySize', 'valueSize', 'maxEntries'] as const).every((field) => wanted[field] === found[field]);
}

/**
 * Writes the entries of a load to its maps, and makes the keys that are monitored.
 *
 * @param isNew whether a map was made by this load: the commit changes the others
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
 */
export function fillMaps(
  maps: readonly MemoryMap[],
  { fill, monitors }: Pick<LoadRequest, 'fill' | 'monitors'>,
  interfaces: Interfaces,
  isNew: (map: MemoryMap) => boolean = () => true,
): void {
  const shapes = maps.map(({ declared }) => shapeOf(declared));
  const changes = fill.map((args) => {
    const found = named(shapes, args.name);
    if (found === undefined) {
      const message = `The object has no map ${args.name}; it has ${namesThere(shapes)}`;
      throw new AgentError('MAP_NOT_FOUND', message, { path: `${args.path}.name` });
    }
    const change: MapChange = { set: fillingOf(found.map, args, interfaces), remove: [] };
    return { map: maps[shapes.indexOf(found.map)]!, change };
  });
  checkMonitors(shapes, monitors, '');
  const made = keysToMake(shapes, monitors)
    .map(({ map, keys: make }) => ({ map: maps[shapes.indexOf(map)]!, change: { set: [], remove: [], make } }))
    .filter(({ map }) => isNew(map));
  for (const { map, change } of [...changes, ...made]) changeMap(map, change);
}

/** See `Datapath.readMaps`. An array here has only the keys that were written. */
export function readingOf(
  { declared, entries }: MemoryMap,
  { keys: wanted, make = [] }: Pick<MapRead, 'keys' | 'make'>,
): MapReading {
  const { type, valueSize } = declared;
  const stride = isPerCpuKind(type) ? perCpuValueSize(valueSize) : valueSize;
  const size = isPerCpuKind(type) ? stride * availableParallelism() : stride;
  for (const key of make.map((raw) => Buffer.from(raw).toString('hex'))) {
    if (!entries.has(key) && entries.size < declared.maxEntries) entries.set(key, '00'.repeat(size));
  }
  const keys =
    'atMost' in wanted ? [...entries.keys()].slice(0, wanted.atMost).map((key) => Buffer.from(key, 'hex')) : wanted;
  const values = keys.map((key) => {
    const value = entries.get(Buffer.from(key).toString('hex'));
    return value === undefined ? Buffer.alloc(size) : Buffer.from(value, 'hex');
  });
  return { keys, values, stride, more: 'atMost' in wanted && entries.size > wanted.atMost };
}

/** Applies a change: all of it or nothing. @throws AgentError MAP_VALUE_INVALID */
export function changeMap({ declared, entries }: MemoryMap, { set, remove, make = [] }: MapChange): void {
  const { name, type, maxEntries } = declared;
  if (remove.length > 0 && isArrayKind(type)) {
    throw new AgentError('MAP_VALUE_INVALID', `${name} is an array, whose keys cannot be removed`);
  }
  const after = new Map(entries);
  for (const key of remove) after.delete(key);
  for (const { key, value, offset } of set) {
    after.set(key, offset === undefined ? stored(declared, value) : patched(declared, after.get(key), value, offset));
  }
  const zeros = '00'.repeat(declared.valueSize);
  for (const key of make) if (!after.has(key)) after.set(key, stored(declared, zeros));
  if (after.size > maxEntries) {
    throw new AgentError('MAP_VALUE_INVALID', `${name} has no room: it holds ${maxEntries} entries`);
  }
  entries.clear();
  for (const [key, value] of after) entries.set(key, value);
}

function patched({ valueSize }: MapShape, whole = '00'.repeat(valueSize), value: string, offset: number): string {
  return whole.slice(0, offset * 2) + value + whole.slice(offset * 2 + value.length);
}

/** The change that would restore the present content of a map. */
export function inverseOfChange({ entries }: MemoryMap, { set, remove, make = [] }: MapChange): MapChange {
  const touched = [...set.filter(({ offset }) => offset === undefined).map(({ key }) => key), ...remove];
  const variables = set.flatMap(({ key, value, offset }) => {
    if (offset === undefined) return [];
    return [{ key, offset, value: entries.get(key)?.slice(offset * 2, offset * 2 + value.length) ?? value }];
  });
  return {
    set: [...touched.flatMap((key) => (entries.has(key) ? [{ key, value: entries.get(key)! }] : [])), ...variables],
    remove: [...touched, ...make].filter((key) => !entries.has(key)),
  };
}

/** A single value for a per-CPU map is written for all CPUs. */
function stored({ type, valueSize }: MapShape, value: string): string {
  if (!isPerCpuKind(type) || value.length !== valueSize * 2) return value;
  return value.padEnd(perCpuValueSize(valueSize) * 2, '0').repeat(availableParallelism());
}
