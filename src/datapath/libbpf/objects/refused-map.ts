import { isPerCpuKind, mapTypeName } from '../../../domain/map-types.js';
import type { MapInfo } from '../../../domain/observed.js';
import { E2BIG, ENOMEM } from '../abi/errno.js';

/*
 * Why the kernel does not create a map that an object declares. The kernel gives only an errno, most often EINVAL. The
 * rules are those of `map_alloc_check` of each map type (kernel/bpf).
 */

/** A map as it is declared. */
export interface Declared extends Pick<MapInfo, 'type' | 'keySize' | 'valueSize' | 'maxEntries'> {
  readonly flags: number;
}

const BPF_F_NO_PREALLOC = 1;

const FLAGS: readonly string[] = [
  'BPF_F_NO_PREALLOC',
  'BPF_F_NO_COMMON_LRU',
  'BPF_F_NUMA_NODE',
  'BPF_F_RDONLY',
  'BPF_F_WRONLY',
  'BPF_F_STACK_BUILD_ID',
  'BPF_F_ZERO_SEED',
  'BPF_F_RDONLY_PROG',
  'BPF_F_WRONLY_PROG',
  'BPF_F_CLONE',
  'BPF_F_MMAPABLE',
  'BPF_F_PRESERVE_ELEMS',
  'BPF_F_INNER_MAP',
];

/** The name of the map in libbpf's messages about a failed load; undefined if it was not a map. */
export function refusedMapName(text: string): string | undefined {
  return /map '([^']+)': failed to create: /.exec(text)?.[1];
}

/** @returns what the kernel does not take, and what is declared, as sentences without the last full stop */
export function whyRefused(map: Declared, errno: number): string {
  const rule = RULES.find(
    ({ types, breaks }) => (types === 'all' || types.includes(mapTypeName(map.type))) && breaks(map),
  );
  const needs = rule?.needs(map) ?? unknownReason(map, errno);
  return `${needs}. It is declared as ${declaration(map)}`;
}

interface MapRule {
  readonly types: readonly string[] | 'all';
  readonly breaks: (map: Declared) => boolean;
  readonly needs: (map: Declared) => string;
}

const INDEXED = [
  'ARRAY',
  'PERCPU_ARRAY',
  'PROG_ARRAY',
  'PERF_EVENT_ARRAY',
  'CGROUP_ARRAY',
  'ARRAY_OF_MAPS',
  'DEVMAP',
  'CPUMAP',
  'XSKMAP',
  'SOCKMAP',
];
const HASHES = ['HASH', 'PERCPU_HASH', 'LRU_HASH', 'LRU_PERCPU_HASH', 'HASH_OF_MAPS'];
const STORAGES = [
  'SK_STORAGE',
  'INODE_STORAGE',
  'TASK_STORAGE',
  'CGRP_STORAGE',
  'CGROUP_STORAGE',
  'PERCPU_CGROUP_STORAGE',
];
const RINGS = ['RINGBUF', 'USER_RINGBUF'];

const RULES: readonly MapRule[] = [
  {
    types: 'all',
    breaks: ({ type, maxEntries }) => maxEntries === 0 && !STORAGES.includes(mapTypeName(type)),
    needs: () =>
      'a map needs a size, but its max_entries is 0 or absent; give it one in the source, since nobody sets it at the load',
  },
  {
    types: STORAGES,
    breaks: ({ maxEntries }) => maxEntries !== 0,
    needs: ({ type }) => `a ${mapTypeName(type)} has no max_entries`,
  },
  {
    types: [...STORAGES.slice(0, 4), 'LPM_TRIE'],
    breaks: ({ flags }) => (flags & BPF_F_NO_PREALLOC) === 0,
    needs: ({ type }) => `a map of type ${mapTypeName(type)} needs the flag BPF_F_NO_PREALLOC`,
  },
  {
    types: INDEXED,
    breaks: ({ keySize }) => keySize !== 4,
    needs: ({ type, keySize }) =>
      `the keys of a map of type ${mapTypeName(type)} are numbers of 4 bytes, not of ${keySize}`,
  },
  {
    types: INDEXED,
    breaks: ({ flags }) => (flags & BPF_F_NO_PREALLOC) !== 0,
    needs: ({ type }) => `a map of type ${mapTypeName(type)} does not take the flag BPF_F_NO_PREALLOC`,
  },
  {
    types: ['QUEUE', 'STACK', 'BLOOM_FILTER', ...RINGS, 'ARENA'],
    breaks: ({ keySize }) => keySize !== 0,
    needs: ({ type }) => `a map of type ${mapTypeName(type)} has no keys`,
  },
  {
    types: [...RINGS, 'ARENA'],
    breaks: ({ valueSize }) => valueSize !== 0,
    needs: ({ type }) => `a map of type ${mapTypeName(type)} has no values of a fixed size`,
  },
  {
    types: RINGS,
    breaks: ({ maxEntries }) => maxEntries % 4096 !== 0 || (maxEntries & (maxEntries - 1)) !== 0,
    needs: () => 'the size of a ring is a power of two and a multiple of the page size (4096), in bytes',
  },
  {
    types: ['DEVMAP', 'DEVMAP_HASH', 'CPUMAP'],
    breaks: ({ valueSize }) => valueSize !== 4 && valueSize !== 8,
    needs: ({ type }) => `a value of a map of type ${mapTypeName(type)} has 4 bytes, or 8 with a program`,
  },
  {
    types: ['LPM_TRIE'],
    breaks: ({ keySize }) => keySize < 5 || keySize > 260,
    needs: () => 'a key of an LPM_TRIE is the length of the prefix in 4 bytes and 1 to 256 bytes more',
  },
  {
    types: HASHES,
    breaks: ({ keySize, valueSize }) => keySize === 0 || valueSize === 0,
    needs: () => 'a hash needs keys and values',
  },
  {
    types: 'all',
    breaks: ({ flags }) => (flags & 0x18) === 0x18,
    needs: () => 'BPF_F_RDONLY and BPF_F_WRONLY exclude each other',
  },
];

function unknownReason({ type, keySize, valueSize, maxEntries }: Declared, errno: number): string {
  const isTooLarge = Math.abs(errno) === E2BIG || Math.abs(errno) === ENOMEM;
  if (!isTooLarge) {
    return `the kernel does not say why; it may not have the type ${mapTypeName(type)} or one of the flags`;
  }
  if (mapTypeName(type) === 'CPUMAP') return 'a CPUMAP has at most as many entries as the kernel supports CPUs';
  const bytes = maxEntries * (keySize + valueSize);
  const copies = isPerCpuKind(type) ? ', for each CPU' : '';
  return `it is too large: ${maxEntries} entries of ${keySize + valueSize} bytes are ${inMegabytes(bytes)}${copies}`;
}

function inMegabytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB`;
}

function declaration({ type, keySize, valueSize, maxEntries, flags }: Declared): string {
  const set = FLAGS.flatMap((name, bit) => ((flags & (1 << bit)) === 0 ? [] : [name]));
  const rest = flags & ~((1 << FLAGS.length) - 1);
  const names = [...set, ...(rest === 0 ? [] : [`0x${(rest >>> 0).toString(16)}`])];
  const words = names.length === 0 ? 'no flags' : `flags ${names.join(' | ')}`;
  return `${mapTypeName(type)}, keys of ${keySize} bytes, values of ${valueSize} bytes, max_entries ${maxEntries}, ${words}`;
}
