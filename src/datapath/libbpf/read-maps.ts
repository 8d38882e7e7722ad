import { isPerCpuKind, isPrefixKind, perCpuValueSize } from '../../domain/mapvalue.js';
import { AgentError } from '../../errors.js';
import type { MapRead, MapReading } from '../datapath.js';
import { check, E2BIG, EEXIST, ENOENT, ENOSPC } from './errno.js';
import { tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { mapInfo } from './info.js';
import { lookupExactly } from './maps.js';

const BPF_NOEXIST = 1;

/** See `Datapath.readMaps`. */
export function readMaps(reads: readonly MapRead[]): readonly (MapReading | undefined)[] {
  return reads.map((read) => {
    try {
      return readOne(read);
    } catch (failure) {
      if (!(failure instanceof AgentError)) throw failure;
      // One that refuses (made with BPF_F_WRONLY, say) must not hide the others.
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
  if (isPrefixKind(type)) {
    const values = lookupExactly({ fd: fd.number, info }, keys);
    return { keys, values: values.map((value) => value ?? Buffer.alloc(valueSize)), stride, more: false };
  }
  return { keys, values: readSome(fd.number, layout, keys, info.name), stride, more: false };
}

/** What a program has put there meanwhile stays as it is (BPF_NOEXIST); where there is no room, the key counts as 0 all the same. */
function makeKeys(fd: number, { keySize, valueSize }: Sizes, keys: readonly Uint8Array[], name: string): void {
  const zeros = Buffer.alloc(valueSize);
  for (const key of keys.filter(({ length }) => length === keySize)) {
    const result = libbpf().bpf_map_update_elem(fd, key, zeros, BPF_NOEXIST);
    if (result !== -EEXIST && result !== -E2BIG) check(result, `Cannot make a key of the map ${name}`);
  }
}

/** Sizes in bytes of what the kernel reads and writes. */
interface Sizes {
  readonly keySize: number;
  readonly valueSize: number;
}

/** Room in memory for all that is read of one map: a value may have as many bytes as a package's author likes. */
const MOST_BYTES = 2 ** 26;

function readSome(fd: number, { keySize, valueSize }: Sizes, keys: readonly Uint8Array[], name: string): Buffer[] {
  const { bpf_map_lookup_elem: lookup } = libbpf();
  const all = Buffer.alloc(valueSize * keys.length);
  return keys.map((key, index) => {
    const value = all.subarray(index * valueSize, (index + 1) * valueSize);
    // The kernel takes as many bytes as its keys have, however many there are.
    if (key.length !== keySize) return value;
    const result = lookup(fd, key, value);
    // A failed lookup leaves the zeros.
    if (result !== -ENOENT) check(result, `Cannot read the map ${name}`);
    return value;
  });
}

/**
 * All keys in one call (bpf(2), BPF_MAP_LOOKUP_BATCH, from Linux 5.6 on; of per-CPU arrays from 5.14 on). It ends with ENOENT when it has come to the
 * end; hash maps go by whole buckets, and one that the room does not suffice for is ENOSPC (kernel/bpf/hashtab.c,
 * __htab_map_lookup_and_delete_batch).
 */
function readAll(
  fd: number,
  { keySize, valueSize, maxEntries }: Sizes & { readonly maxEntries: number },
  atMost: number,
  name: string,
): Pick<MapReading, 'keys' | 'values' | 'more'> {
  // One more than is wanted tells whether there are more.
  const room = Math.min(Math.min(atMost, maxEntries) + 1, Math.max(2, Math.floor(MOST_BYTES / (keySize + valueSize))));
  const [keys, values] = [Buffer.alloc(keySize * room), Buffer.alloc(valueSize * room)];
  // Of a hash map a u32, of other kinds a key.
  const next = Buffer.alloc(Math.max(keySize, 4));
  const count = Buffer.alloc(4);
  count.writeUInt32LE(room);
  const result = libbpf().bpf_map_lookup_batch(fd, null, next, keys, values, count, null);
  if (result !== -ENOENT && result !== -ENOSPC) check(result, `Cannot read all of the map ${name}`);
  // The kernel leaves the count as it was where it refuses before it begins; where a bucket does not fit, it has written the ones before.
  const found = Math.min(count.readUInt32LE(), atMost, room);
  const indices = Array.from({ length: found }, (_, index) => index);
  return {
    keys: indices.map((index) => keys.subarray(index * keySize, (index + 1) * keySize)),
    values: indices.map((index) => values.subarray(index * valueSize, (index + 1) * valueSize)),
    more: result !== -ENOENT || count.readUInt32LE() > atMost,
  };
}
