import { availableParallelism } from 'node:os';
import { isArrayKind, isPerCpuKind, type MapShape, perCpuValueSize } from '../domain/mapvalue.js';
import type { MapInfo } from '../domain/observed.js';
import { AgentError } from '../errors.js';
import type { MapChange } from './datapath.js';

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

/** What is declared, and for how many CPUs there are values. */
export function shapeOf(declared: MapShape): MapShape {
  return isPerCpuKind(declared.type) ? { ...declared, cpus: availableParallelism() } : declared;
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
