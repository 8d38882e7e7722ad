import { isLpmTrie, isPerCpuKind } from '../../../domain/map-types.js';
import { perCpuValueSize } from '../../../domain/mapvalue.js';
import { AgentError } from '../../../errors.js';
import type { MapRead, MapReading } from '../../datapath.js';
import { check, E2BIG, EEXIST, ENOENT, ENOSPC } from '../abi/errno.js';
import { tryOpenPin } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { mapInfo } from '../abi/info.js';
import { lookupExactly } from './maps.js';

const BPF_NOEXIST = 1;

/** See `Datapath.readMaps`. */
export function readMaps(reads: readonly MapRead[]): readonly (MapReading | undefined)[] {
  return reads.map((read) => {
    try {
      return readOne(read);
    } catch (failure) {
      if (!(failure instanceof AgentError)) throw failure;
      // A map that cannot be read (because of BPF_F_WRONLY, for example) must not hide the others.
      return { keys: [], values: [], stride: 0, more: false, failure };
    }
  });
}

function readOne({ pin, mapId, keys, make = [] }: MapRead): MapReading | undefined {
  using fd = tryOpenPin('map', pin);
  if (fd === undefined) return undefined;
  const info = { name: pin.slice(pin.lastIndexOf('/') + 1), ...mapInfo(fd.number) };
  if (info.id !== mapId) return undefined;
  const { type, keySize, valueSize, maxEntries, cpus = 1 } = info;
  const stride = isPerCpuKind(type) ? perCpuValueSize(valueSize) : valueSize;
  const layout = { keySize, valueSize: stride * cpus, maxEntries };
  makeKeys(fd.number, layout, make, info.name);
  if ('atMost' in keys) return { ...readAll(fd.number, layout, keys.atMost, info.name), stride };
  if (isLpmTrie(type)) {
    const values = lookupExactly({ fd: fd.number, info }, keys);
    return { keys, values: values.map((value) => value ?? Buffer.alloc(valueSize)), stride, more: false };
  }
  return { keys, values: readSome(fd.number, layout, keys, info.name), stride, more: false };
}

/** A value that a program has written in the meantime stays (BPF_NOEXIST). If the map is full, the key is read as 0. */
function makeKeys(fd: number, { keySize, valueSize }: Sizes, keys: readonly Uint8Array[], name: string): void {
  const zeros = Buffer.alloc(valueSize);
  for (const key of keys.filter(({ length }) => length === keySize)) {
    const result = libbpf().bpf_map_update_elem(fd, key, zeros, BPF_NOEXIST);
    if (result !== -EEXIST && result !== -E2BIG) check(result, `Cannot make a key of the map ${name}`);
  }
}

/** Sizes in bytes, as the kernel reads and writes them. */
interface Sizes {
  readonly keySize: number;
  readonly valueSize: number;
}

/** Memory limit for all that is read from one map: a package's author may choose any value size. */
const MOST_BYTES = 2 ** 26;

function readSome(fd: number, { keySize, valueSize }: Sizes, keys: readonly Uint8Array[], name: string): Buffer[] {
  const { bpf_map_lookup_elem: lookup } = libbpf();
  const all = Buffer.alloc(valueSize * keys.length);
  return keys.map((key, index) => {
    const value = all.subarray(index * valueSize, (index + 1) * valueSize);
    // The kernel reads as many bytes as its keys have, whatever the length of this buffer.
    if (key.length !== keySize) return value;
    const result = lookup(fd, key, value);
    // After a failed lookup the zeros stay.
    if (result !== -ENOENT) check(result, `Cannot read the map ${name}`);
    return value;
  });
}

/**
 * Buckets of hash maps seldom have more entries than this. There is always room for one bucket, even if few entries are
 * still wanted.
 */
const BUCKET_ENTRIES = 16;

/**
 * Reads many keys in one call (bpf(2), BPF_MAP_LOOKUP_BATCH, from Linux 5.6 on; for per-CPU arrays from 5.14 on). It
 * returns ENOENT at the end of the map. A hash map is read by whole buckets (kernel/bpf/hashtab.c,
 * __htab_map_lookup_and_delete_batch). A call stops before a bucket that does not fit into the remaining room, so there
 * may be more entries although the room was not filled. If the very first bucket does not fit, the call returns ENOSPC.
 */
function readAll(
  fd: number,
  { keySize, valueSize, maxEntries }: Sizes & { readonly maxEntries: number },
  atMost: number,
  name: string,
): Pick<MapReading, 'keys' | 'values' | 'more'> {
  const mostRoom = Math.max(2, Math.floor(MOST_BYTES / (keySize + valueSize)));
  // One more than wanted shows whether there are more.
  const wanted = Math.min(Math.min(atMost, maxEntries) + 1, mostRoom);
  const [keys, values]: [Buffer[], Buffer[]] = [[], []];
  // Where to continue: a u32 for hash maps, a key for others.
  const position = Buffer.alloc(Math.max(keySize, 4));
  const count = Buffer.alloc(4);
  let from: Buffer | null = null;
  let room = wanted;
  let atEnd = false;
  while (!atEnd && keys.length < wanted) {
    const [someKeys, someValues] = [Buffer.alloc(keySize * room), Buffer.alloc(valueSize * room)];
    count.writeUInt32LE(room);
    const result = libbpf().bpf_map_lookup_batch(fd, from, position, someKeys, someValues, count, null);
    if (result === -ENOSPC) {
      if (room === mostRoom) break;
      room = Math.min(2 * room, mostRoom);
      continue;
    }
    if (result !== -ENOENT) check(result, `Cannot read the entries of the map ${name}`);
    atEnd = result === -ENOENT;
    for (const index of Array(count.readUInt32LE()).keys()) {
      keys.push(someKeys.subarray(index * keySize, (index + 1) * keySize));
      values.push(someValues.subarray(index * valueSize, (index + 1) * valueSize));
    }
    from = position;
    room = Math.min(Math.max(wanted - keys.length, BUCKET_ENTRIES), mostRoom);
  }
  const more = !atEnd || keys.length > atMost;
  return { keys: keys.slice(0, atMost), values: values.slice(0, atMost), more };
}
