import { availableParallelism } from 'node:os';
import {
  encodeMapArgs,
  isArrayKind,
  isPerCpuKind,
  type MapShape,
  PROG_ARRAY,
  perCpuValueSize,
} from '../domain/mapvalue.js';
import { checkMonitors } from '../domain/monitor.js';
import type { MapInfo } from '../domain/observed.js';
import { mapPin, mapSegment } from '../domain/pins.js';
import type { Fill } from '../domain/step.js';
import { AgentError } from '../errors.js';
import type { LoadRequest, MapChange, MapRead, MapReading } from './datapath.js';
import type { ObjectFile } from './object.js';

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

/** What is declared, and for how many CPUs there are values. */
function shapeOf(declared: MapShape): MapShape {
  return isPerCpuKind(declared.type) ? { ...declared, cpus: availableParallelism() } : declared;
}

/**
 * The data maps that a load comes to: those that it takes over, and new ones with what is written to them.
 *
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
 */
export function makeMaps(
  declared: readonly MapShape[],
  { share, ...filling }: Pick<LoadRequest, 'share' | 'fill' | 'monitors'>,
  taken: (pin: string) => MemoryMap,
  nextId: () => number,
): MemoryMap[] {
  const missing = share.find(({ map }) => !declared.some(({ name }) => mapSegment(name) === mapSegment(map)));
  if (missing !== undefined) throw new AgentError('MAP_NOT_FOUND', `The object has no map ${missing.map} to share`);
  const maps = declared.map((shape): MemoryMap => {
    const source = share.find(({ map }) => mapSegment(map) === mapSegment(shape.name));
    return source === undefined ? { id: nextId(), declared: shape, entries: new Map() } : taken(source.pin);
  });
  fillMaps(maps, filling);
  return maps;
}

/** What a load takes over from the other side of TC; see `LoadRequest.otherSide`. */
export function sharedByName(
  declared: readonly MapShape[],
  { pinnedByName }: Pick<ObjectFile, 'pinnedByName'>,
  { share, otherSide, fill }: Pick<LoadRequest, 'share' | 'otherSide' | 'fill'>,
  pinned: (pin: string) => MemoryMap | undefined,
): LoadRequest['share'] {
  if (otherSide === undefined) return [];
  const own = new Set([...share.map(({ map }) => mapSegment(map)), ...fill.map(({ name }) => mapSegment(name))]);
  return declared
    .filter(({ name, type }) => pinnedByName.has(name) && type !== PROG_ARRAY && !own.has(mapSegment(name)))
    .map((shape) => ({ shape, pin: mapPin(otherSide, shape.name) }))
    .filter(({ shape, pin }) => isAlike(shape, pinned(pin)?.declared))
    .map(({ shape, pin }) => ({ map: shape.name, pin }));
}

function isAlike(wanted: MapShape, found: MapShape | undefined): boolean {
  if (found === undefined) return false;
  return (['type', 'keySize', 'valueSize', 'maxEntries'] as const).every((field) => wanted[field] === found[field]);
}

/** Writes to maps what a load is to write to them. @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID */
export function fillMaps(maps: readonly MemoryMap[], { fill, monitors }: Pick<LoadRequest, 'fill' | 'monitors'>): void {
  const changes = fill.map((args) => fillingOf(maps, args));
  checkMonitors(
    maps.map(({ declared }) => shapeOf(declared)),
    monitors,
    '',
  );
  for (const { map, set } of changes) changeMap(map, { set, remove: [] });
}

/** What a load writes into one of the maps that it makes. @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID */
function fillingOf(maps: readonly MemoryMap[], args: Fill): { map: MemoryMap; set: MapChange['set'] } {
  const map = maps.find(({ declared }) => declared.name === args.name);
  if (map === undefined) {
    const there = maps.map(({ declared }) => declared.name).join(', ') || 'none';
    const message = `The object has no map ${args.name}; it has ${there}`;
    throw new AgentError('MAP_NOT_FOUND', message, { path: `${args.path}.name` });
  }
  return { map, set: encodeMapArgs(shapeOf(map.declared), args, args.path) };
}

/** See `Datapath.readMaps`. Here an array has only what was written to it. */
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

/** Applies a change, all or nothing. @throws AgentError MAP_VALUE_INVALID */
export function changeMap({ declared, entries }: MemoryMap, { set, remove }: MapChange): void {
  const { name, type, maxEntries } = declared;
  if (remove.length > 0 && isArrayKind(type)) {
    throw new AgentError('MAP_VALUE_INVALID', `${name} is an array, whose keys cannot be removed`);
  }
  const after = new Map(entries);
  for (const key of remove) after.delete(key);
  for (const { key, value } of set) after.set(key, stored(declared, value));
  if (after.size > maxEntries) {
    throw new AgentError('MAP_VALUE_INVALID', `${name} has no room: it holds ${maxEntries} entries`);
  }
  entries.clear();
  for (const [key, value] of after) entries.set(key, value);
}

/** The change that would bring a map back to what it is now. */
export function inverseOfChange({ entries }: MemoryMap, { set, remove }: MapChange): MapChange {
  const touched = [...set.map(({ key }) => key), ...remove];
  return {
    set: touched.flatMap((key) => (entries.has(key) ? [{ key, value: entries.get(key)! }] : [])),
    remove: touched.filter((key) => !entries.has(key)),
  };
}

/** A single value of a per-CPU map goes to all CPUs. */
function stored({ type, valueSize }: MapShape, value: string): string {
  if (!isPerCpuKind(type) || value.length !== valueSize * 2) return value;
  return value.padEnd(perCpuValueSize(valueSize) * 2, '0').repeat(availableParallelism());
}
