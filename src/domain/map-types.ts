import { AgentError } from '../errors.js';

/*
 * The kernel's map types (`enum bpf_map_type` of include/uapi/linux/bpf.h): their names, and what user space can put
 * into each.
 */

interface MapType {
  readonly name: string;
  /** Why entries cannot be written as plain bytes: what the map holds instead. Absent if they can. */
  readonly holds?: string;
}

const MAP_TYPES: readonly MapType[] = [
  { name: 'UNSPEC', holds: 'nothing' },
  { name: 'HASH' },
  { name: 'ARRAY' },
  { name: 'PROG_ARRAY', holds: 'programs' },
  { name: 'PERF_EVENT_ARRAY', holds: 'perf events' },
  { name: 'PERCPU_HASH' },
  { name: 'PERCPU_ARRAY' },
  { name: 'STACK_TRACE', holds: 'stack traces, which only the kernel writes' },
  { name: 'CGROUP_ARRAY', holds: 'control groups' },
  { name: 'LRU_HASH' },
  { name: 'LRU_PERCPU_HASH' },
  { name: 'LPM_TRIE' },
  { name: 'ARRAY_OF_MAPS', holds: 'maps' },
  { name: 'HASH_OF_MAPS', holds: 'maps' },
  { name: 'DEVMAP' },
  { name: 'SOCKMAP', holds: 'sockets' },
  { name: 'CPUMAP' },
  { name: 'XSKMAP', holds: 'sockets' },
  { name: 'SOCKHASH', holds: 'sockets' },
  { name: 'CGROUP_STORAGE', holds: 'storage of control groups' },
  { name: 'REUSEPORT_SOCKARRAY', holds: 'sockets' },
  { name: 'PERCPU_CGROUP_STORAGE', holds: 'storage of control groups' },
  { name: 'QUEUE', holds: 'a queue, which has no keys' },
  { name: 'STACK', holds: 'a stack, which has no keys' },
  { name: 'SK_STORAGE', holds: 'storage of sockets' },
  { name: 'DEVMAP_HASH' },
  { name: 'STRUCT_OPS', holds: 'operations of the kernel' },
  { name: 'RINGBUF', holds: 'a ring of records, which has no keys' },
  { name: 'INODE_STORAGE', holds: 'storage of inodes' },
  { name: 'TASK_STORAGE', holds: 'storage of tasks' },
  { name: 'BLOOM_FILTER', holds: 'a set, which has no keys and cannot be read back' },
  { name: 'USER_RINGBUF', holds: 'a ring of records, which has no keys' },
  { name: 'CGRP_STORAGE', holds: 'storage of control groups' },
  { name: 'ARENA', holds: 'plain memory, which has no keys' },
  { name: 'INSN_ARRAY', holds: 'places in a program' },
];

const HASH = 1;
const ARRAY = 2;
export const PROG_ARRAY = 3;
const PERCPU_HASH = 5;
const PERCPU_ARRAY = 6;
const LRU_HASH = 9;
const LRU_PERCPU_HASH = 10;
const LPM_TRIE = 11;
const DEVMAP = 14;
const CPUMAP = 16;
const DEVMAP_HASH = 25;
const RINGBUF = 27;
const USER_RINGBUF = 31;
const ARENA = 33;

/** `LPM_TRIE`; `type 99` for a type that is not known here. */
export function mapTypeName(type: number): string {
  return MAP_TYPES[type]?.name ?? `type ${type}`;
}

/** Why a payload cannot give entries for maps of a type, as the end of a sentence; undefined if it can. */
export function whyUnwritable(type: number): string | undefined {
  const known = MAP_TYPES[type];
  if (known === undefined) return `is of map type ${type}, which is not known here`;
  return known.holds === undefined ? undefined : `is of map type ${type} (${known.name}): it holds ${known.holds}`;
}

/** Whether all keys of a map always exist, so that none can be deleted. */
export function isArrayKind(type: number): boolean {
  return type === ARRAY || type === PERCPU_ARRAY;
}

/** Whether the keys of a map are the numbers below its size. */
export function isIndexed(type: number): boolean {
  return isArrayKind(type) || type === DEVMAP || type === CPUMAP;
}

/** Whether a lookup in a map finds the longest prefix that covers a key, instead of the key itself. */
export function isLpmTrie(type: number): boolean {
  return type === LPM_TRIE;
}

/** Whether a map holds one value per possible CPU under each key. */
export function isPerCpuKind(type: number): boolean {
  return type === PERCPU_HASH || type === PERCPU_ARRAY || type === LRU_PERCPU_HASH;
}

/** Whether the values of a map name interfaces, by their index. */
export function isDevmap(type: number): boolean {
  return type === DEVMAP || type === DEVMAP_HASH;
}

export function isCpumap(type: number): boolean {
  return type === CPUMAP;
}

/** Whether a program may count only under keys that exist, and a key can be made for it. */
export function isHashOfNumbers(type: number): boolean {
  return type === HASH || type === PERCPU_HASH || type === LRU_HASH || type === LRU_PERCPU_HASH;
}

/** Whether a map has keys under which numbers can be read. */
export function hasNumbers(type: number): boolean {
  return isHashOfNumbers(type) || isArrayKind(type) || type === LPM_TRIE;
}

/** What a map's memory depends on. Sizes in bytes. */
export interface MapSize {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** How many values an entry has; 1 if absent. */
  readonly cpus?: number | undefined;
}

const PAGE_BYTES = 4096;

/**
 * About how many bytes of the kernel's memory a map takes when it is full: its keys and values, each a multiple of 8.
 * What the kernel keeps beside them is left out.
 */
export function bytesOfMap({ type, keySize, valueSize, maxEntries, cpus = 1 }: MapSize): number {
  if (type === RINGBUF || type === USER_RINGBUF) return maxEntries;
  if (type === ARENA) return maxEntries * PAGE_BYTES;
  const key = type === ARRAY || type === PERCPU_ARRAY ? 0 : rounded(keySize);
  return maxEntries * (key + rounded(valueSize) * cpus);
}

function rounded(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/**
 * Refuses maps that together would take more memory than is allowed.
 *
 * @param atMost in bytes
 * @throws AgentError MAPS_TOO_LARGE
 */
export function checkMapBytes(maps: readonly (MapSize & { readonly name: string })[], atMost: number): void {
  const sized = maps.map((map) => ({ map, bytes: bytesOfMap(map) })).toSorted((a, b) => b.bytes - a.bytes);
  const total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
  const [largest] = sized;
  if (total <= atMost || largest === undefined) return;
  const { name, maxEntries } = largest.map;
  const most = `the largest is ${name}, ${mebibytes(largest.bytes)} for ${maxEntries} entries`;
  const message = `The maps of the object would take ${mebibytes(total)} of the kernel's memory (${most}), and this host allows ${mebibytes(atMost)} for one program (max_map_bytes)`;
  throw new AgentError('MAPS_TOO_LARGE', message, { path: 'object_file' });
}

function mebibytes(bytes: number): string {
  const amount = bytes / 2 ** 20;
  return `${amount < 10 ? Number(amount.toPrecision(2)) : Math.round(amount)} MiB`;
}
