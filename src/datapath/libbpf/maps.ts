import { canonicalPrefix, isArrayKind, isPerCpuKind, isPrefixKind, perCpuValueSize } from '../../domain/mapvalue.js';
import type { MapInfo } from '../../domain/observed.js';
import { AgentError } from '../../errors.js';
import type { MapChange } from '../datapath.js';
import { check, E2BIG, ENOENT, EPERM, kernelError } from './errno.js';
import { type Fd, openPin } from './fd.js';
import { libbpf } from './ffi.js';
import { mapInfo } from './info.js';

/** Kinds whose values are plain bytes (`enum bpf_map_type`): others hold programs, maps, sockets or queues. */
const PLAIN_KINDS: ReadonlySet<number> = new Set([
  1, // HASH
  2, // ARRAY
  5, // PERCPU_HASH
  6, // PERCPU_ARRAY
  9, // LRU_HASH
  10, // LRU_PERCPU_HASH
  11, // LPM_TRIE
  14, // DEVMAP
  16, // CPUMAP
  25, // DEVMAP_HASH
]);

export interface OpenMap {
  readonly fd: number;
  readonly info: MapInfo;
}

/** Applies a change to a pinned map; see `Datapath.writeMap`. */
export function writeMap(path: string, change: MapChange): void {
  using fd = openPin('map', path);
  applyChange(opened(fd, path), change);
}

/** See `Datapath.inverseOf`. */
export function inverseOf(path: string, change: MapChange): MapChange {
  using fd = openPin('map', path);
  return inverse(opened(fd, path), change);
}

/** The change that would bring a map back to what it is now. */
export function inverse(map: OpenMap, { set, remove }: MapChange): MapChange {
  const entries = [...valuesOf(map, [...set.map(({ key }) => key), ...remove])];
  return {
    set: entries.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: value.toString('hex') }])),
    remove: entries.flatMap(([key, value]) => (value === undefined ? [key] : [])),
  };
}

/** See `Datapath.readMap`. */
export function readMap(path: string, key: Uint8Array): Uint8Array | undefined {
  using fd = openPin('map', path);
  const map = opened(fd, path);
  checkSize(key, map.info.keySize, 'key', map);
  return lookup(map, key);
}

/** Applies a change, all or nothing. @throws AgentError MAP_VALUE_INVALID, KERNEL */
export function applyChange(map: OpenMap, change: MapChange): void {
  const writes = toWrites(map, change);
  const before = valuesOf(
    map,
    writes.map(({ key }) => key),
  );

  const done: Write[] = [];
  try {
    for (const write of writes) {
      apply(map, write);
      done.push(write);
    }
  } catch (error) {
    for (const { key } of done) apply(map, { key, value: before.get(key) });
    throw error;
  }
}

/** What a map has under exactly these keys, and not under a prefix that covers them. */
export function lookupExactly(map: OpenMap, keys: readonly Uint8Array[]): readonly (Buffer | undefined)[] {
  return [
    ...valuesOf(
      map,
      keys.map((key) => Buffer.from(key).toString('hex')),
    ).values(),
  ];
}

/** By key in hexadecimal, as {@link lookupExactly}. */
function valuesOf(map: OpenMap, keys: readonly string[]): Map<string, Buffer | undefined> {
  const present = isPrefixKind(map.info.type) ? prefixesOf(map) : undefined;
  return new Map(
    keys.map((key) => {
      const raw = Buffer.from(key, 'hex');
      const isThere = present === undefined || present.has(canonicalPrefix(raw).toString('hex'));
      return [key, isThere ? lookup(map, raw) : undefined];
    }),
  );
}

/** All keys of an LPM trie, whose lookup does not tell whether a key itself is there. */
function prefixesOf({ fd, info }: OpenMap): ReadonlySet<string> {
  const found = new Set<string>();
  const next = Buffer.alloc(info.keySize);
  let previous: Buffer | null = null;
  // Bounded, since programs may change the trie meanwhile and send us round in it.
  for (let count = 0; count <= info.maxEntries; count++) {
    const result = libbpf().bpf_map_get_next_key(fd, previous, next);
    if (result === -ENOENT) break;
    check(result, `Cannot list the map ${info.name}`);
    previous = Buffer.from(next);
    found.add(canonicalPrefix(previous).toString('hex'));
  }
  return found;
}

interface Write {
  readonly key: string;
  /** Undefined: remove. */
  readonly value: Buffer | undefined;
}

function toWrites(map: OpenMap, { set, remove }: MapChange): Write[] {
  const { info } = map;
  if (!PLAIN_KINDS.has(info.type))
    throw invalid(`${info.name} is of map type ${info.type}, which holds no plain values`);
  if (remove.length > 0 && isArrayKind(info.type))
    throw invalid(`${info.name} is an array, whose keys cannot be removed`);
  const writes = [
    ...set.map(({ key, value }) => ({ key, value: storedValue(map, Buffer.from(value, 'hex')) })),
    ...remove.map((key) => ({ key, value: undefined })),
  ];
  for (const { key } of writes) checkSize(Buffer.from(key, 'hex'), info.keySize, 'key', map);
  return writes;
}

/** What the kernel is given: a per-CPU map wants a value for each possible CPU, and gets a single one for all of them. */
function storedValue(map: OpenMap, value: Buffer): Buffer {
  const { info } = map;
  if (isPerCpuKind(info.type) && value.length === info.valueSize) {
    const padded = Buffer.alloc(perCpuValueSize(info.valueSize));
    padded.set(value);
    return Buffer.concat(Array.from({ length: libbpf().libbpf_num_possible_cpus() }, () => padded));
  }
  checkSize(value, storedSize(info), 'value', map);
  return value;
}

function storedSize({ type, valueSize }: MapInfo): number {
  return isPerCpuKind(type) ? perCpuValueSize(valueSize) * libbpf().libbpf_num_possible_cpus() : valueSize;
}

function lookup({ fd, info }: OpenMap, key: Uint8Array): Buffer | undefined {
  const value = Buffer.alloc(storedSize(info));
  const result = libbpf().bpf_map_lookup_elem(fd, key, value);
  if (result === -ENOENT) return undefined;
  check(result, `Cannot read the map ${info.name}`);
  return value;
}

function apply({ fd, info }: OpenMap, { key, value }: Write): void {
  const rawKey = Buffer.from(key, 'hex');
  const bpf = libbpf();
  const result =
    value === undefined ? bpf.bpf_map_delete_elem(fd, rawKey) : bpf.bpf_map_update_elem(fd, rawKey, value, 0);
  if (result >= 0 || (value === undefined && result === -ENOENT)) return;
  if (result === -E2BIG)
    throw invalid(`${info.name} has no room for the key 0x${key}: it holds ${info.maxEntries} entries`);
  if (result === -EPERM) throw invalid(`${info.name} is read-only once its program is loaded`);
  throw kernelError(`Cannot write the map ${info.name}`, result);
}

function checkSize(bytes: Uint8Array, size: number, what: 'key' | 'value', { info }: OpenMap): void {
  if (bytes.length !== size) throw invalid(`A ${what} of ${info.name} has ${size} bytes, got ${bytes.length}`);
}

function opened(fd: Fd, path: string): OpenMap {
  return { fd: fd.number, info: { name: path.slice(path.lastIndexOf('/') + 1), ...mapInfo(fd.number) } };
}

function invalid(message: string): AgentError {
  return new AgentError('MAP_VALUE_INVALID', message);
}
