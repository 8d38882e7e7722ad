import koffi from 'koffi';
import {
  isArrayKind,
  isCpumap,
  isDevmap,
  isLpmTrie,
  isPerCpuKind,
  mapTypeName,
  whyUnwritable,
} from '../../../domain/map-types.js';
import { canonicalPrefix, perCpuValueSize } from '../../../domain/mapvalue.js';
import type { MapInfo, StoredEntries } from '../../../domain/observed.js';
import { AgentError } from '../../../errors.js';
import type { MapChange } from '../../datapath.js';
import { check, E2BIG, EEXIST, ENOENT, EPERM, kernelError } from '../abi/errno.js';
import { type Fd, openPin, tryOpenId } from '../abi/fd.js';
import { libbpf, libc } from '../abi/ffi.js';
import { isMappable, mapInfo } from '../abi/info.js';

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

/** The change that would restore the present content of a map. */
export function inverse(map: OpenMap, { set, remove, make = [] }: MapChange): MapChange {
  const present = valuesOf(map, [...set.map(({ key }) => key), ...remove, ...make]);
  const variables = set.filter(({ offset }) => offset !== undefined);
  const whole = new Set([
    ...set.filter(({ offset }) => offset === undefined).map(({ key }) => key),
    ...remove,
    ...make,
  ]);
  const entries = [...present].filter(([key]) => whole.has(key));
  return {
    set: [
      ...entries.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: value.toString('hex') }])),
      ...variables.map(({ key, value, offset = 0 }) => {
        const now = present.get(key)?.subarray(offset, offset + value.length / 2);
        return { key, value: now?.toString('hex') ?? value, offset };
      }),
    ].filter(({ key }) => !make.includes(key) || set.some((one) => one.key === key)),
    remove: entries.flatMap(([key, value]) => (value === undefined ? [key] : [])),
  };
}

/** See `Datapath.readEntries`. */
export function readEntries(path: string, keys: readonly string[]): StoredEntries {
  using fd = openPin('map', path);
  return new Map([...valuesOf(opened(fd, path), keys)].map(([key, value]) => [key, value?.toString('hex') ?? null]));
}

/** See `Datapath.readMap`. */
export function readMap(path: string, key: Uint8Array): Uint8Array | undefined {
  using fd = openPin('map', path);
  const map = opened(fd, path);
  checkSize(key, map.info.keySize, 'key', map);
  return lookup(map, key);
}

/** Applies a change: all of it or nothing. @throws AgentError MAP_VALUE_INVALID, KERNEL */
export function applyChange(map: OpenMap, change: MapChange): void {
  const writes = toWrites(map, change);
  const before = valuesOf(
    map,
    writes.map(({ key }) => key),
  );

  const done: EntryWrite[] = [];
  try {
    for (const write of writes) {
      if (apply(map, write)) done.push(write);
    }
  } catch (error) {
    for (const { key, offset, value } of done.toReversed()) {
      const former = before.get(key);
      if (offset === undefined) apply(map, { key, value: former });
      else apply(map, { key, offset, value: former?.subarray(offset, offset + value!.length) });
    }
    throw error;
  }
}

/** The values under exactly these keys, not under a prefix that covers them. */
export function lookupExactly(map: OpenMap, keys: readonly Uint8Array[]): readonly (Buffer | undefined)[] {
  return [
    ...valuesOf(
      map,
      keys.map((key) => Buffer.from(key).toString('hex')),
    ).values(),
  ];
}

/** By key in hexadecimal, like {@link lookupExactly}. */
function valuesOf(map: OpenMap, keys: readonly string[]): Map<string, Buffer | undefined> {
  const present = isLpmTrie(map.info.type) ? prefixesOf(map) : undefined;
  return new Map(
    keys.map((key) => {
      const raw = Buffer.from(key, 'hex');
      const isThere = present === undefined || present.has(canonicalPrefix(raw).toString('hex'));
      return [key, isThere ? lookup(map, raw) : undefined];
    }),
  );
}

/** All keys of an LPM trie: its lookup does not say whether a key itself exists. */
function prefixesOf({ fd, info }: OpenMap): ReadonlySet<string> {
  const found = new Set<string>();
  const next = Buffer.alloc(info.keySize);
  let previous: Buffer | null = null;
  // Bounded, since programs may change the trie in the meantime and make the walk endless.
  for (let count = 0; count <= info.maxEntries; count++) {
    const result = libbpf().bpf_map_get_next_key(fd, previous, next);
    if (result === -ENOENT) break;
    check(result, `Cannot list the map ${info.name}`);
    previous = Buffer.from(next);
    found.add(canonicalPrefix(previous).toString('hex'));
  }
  return found;
}

interface EntryWrite {
  readonly key: string;
  /** Undefined: delete the key. */
  readonly value: Buffer | undefined;
  /** Where in the value the bytes are; undefined for the whole value. */
  readonly offset?: number;
  /** Only if the key does not exist yet. */
  readonly isNew?: true;
}

function toWrites(map: OpenMap, { set, remove, make = [] }: MapChange): EntryWrite[] {
  const { info } = map;
  const why = whyUnwritable(info.type);
  if (why !== undefined) throw invalid(`${info.name} ${why}; it has no plain values`);
  if (remove.length > 0 && isArrayKind(info.type))
    throw invalid(`${info.name} is an array, whose keys cannot be removed`);
  const writes = [
    ...set.map(({ key, value, offset }): EntryWrite => {
      const bytes = Buffer.from(value, 'hex');
      return offset === undefined ? { key, value: storedValue(map, bytes) } : { key, value: bytes, offset };
    }),
    ...make.map((key): EntryWrite => ({ key, value: Buffer.alloc(storedSize(info)), isNew: true })),
    ...remove.map((key): EntryWrite => ({ key, value: undefined })),
  ];
  for (const { key } of writes) checkSize(Buffer.from(key, 'hex'), info.keySize, 'key', map);
  return writes;
}

/**
 * The value in the form of the kernel: a per-CPU map needs a value for each possible CPU, so a single one is repeated
 * for all of them.
 */
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

const BPF_NOEXIST = 1;

/** @returns whether it has changed anything that has to be taken back */
function apply(map: OpenMap, write: EntryWrite): boolean {
  const { fd, info } = map;
  const { key, value, offset, isNew } = write;
  const rawKey = Buffer.from(key, 'hex');
  const bpf = libbpf();
  if (offset !== undefined && value !== undefined) {
    writeVariable(map, rawKey, value, offset);
    return true;
  }
  using program = value === undefined ? undefined : programOf(info, value);
  if (program !== undefined) value?.writeInt32LE(program.number, 4);
  const result =
    value === undefined
      ? bpf.bpf_map_delete_elem(fd, rawKey)
      : bpf.bpf_map_update_elem(fd, rawKey, value, isNew ? BPF_NOEXIST : 0);
  if (result === -EEXIST && isNew) return false;
  if (result >= 0 || (value === undefined && result === -ENOENT)) return true;
  if (result === -E2BIG)
    throw invalid(`${info.name} has no room for the key 0x${key}: it holds ${info.maxEntries} entries`);
  if (result === -EPERM)
    throw invalid(`${info.name} is read-only for user space: it was frozen when its program was loaded`);
  throw kernelError(
    `The kernel does not take the entry 0x${key} of the ${mapTypeName(info.type)} ${info.name}`,
    result,
  );
}

/**
 * The program that somebody has put into an entry of a map of interfaces or CPUs. The kernel tells its id, and takes a
 * descriptor (`struct bpf_devmap_val` and `struct bpf_cpumap_val` in include/uapi/linux/bpf.h).
 */
function programOf({ type }: MapInfo, value: Buffer): Fd | undefined {
  const hasProgram = (isDevmap(type) || isCpumap(type)) && value.length === 8 && value.readUInt32LE(4) !== 0;
  return hasProgram ? tryOpenId('prog', value.readUInt32LE(4)) : undefined;
}

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const PAGE = 4096;

/**
 * Writes some bytes of a value. Programs may write other variables of the section at the same moment, so the value is
 * not read and written back as a whole, where the kernel lets us have its memory (from Linux 5.5 on).
 */
function writeVariable(map: OpenMap, key: Buffer, bytes: Buffer, offset: number): void {
  const { fd, info } = map;
  if (!isMappable(fd)) {
    const whole = lookup(map, key) ?? Buffer.alloc(info.valueSize);
    bytes.copy(whole, offset);
    apply(map, { key: key.toString('hex'), value: whole });
    return;
  }
  const length = Math.ceil(info.valueSize / PAGE) * PAGE;
  const memory = libc().mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (BigInt.asIntN(64, memory) < 0n)
    throw invalid(`${info.name} is read-only for user space: it was frozen when its program was loaded`);
  try {
    const view = koffi.view(memory, length);
    const data = new DataView(view);
    // A number is written at once, so that no program sees half of it.
    if (bytes.length === 8 && offset % 8 === 0) data.setBigUint64(offset, bytes.readBigUInt64LE(), true);
    else if (bytes.length === 4 && offset % 4 === 0) data.setUint32(offset, bytes.readUInt32LE(), true);
    else if (bytes.length === 2 && offset % 2 === 0) data.setUint16(offset, bytes.readUInt16LE(), true);
    else new Uint8Array(view).set(bytes, offset);
  } finally {
    libc().munmap(memory, length);
  }
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
