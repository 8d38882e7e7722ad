import { isPerCpuKind, isPrefixKind, perCpuValueSize } from '../../domain/mapvalue.js';
import type { MapRead, MapReading } from '../datapath.js';
import { check, ENOENT, ENOSPC } from './errno.js';
import { tryOpenPin } from './fd.js';
import { libbpf } from './ffi.js';
import { mapInfo } from './info.js';
import { lookupExactly } from './maps.js';

/** See `Datapath.readMaps`. */
export function readMaps(reads: readonly MapRead[]): readonly (MapReading | undefined)[] {
  return reads.map(readOne);
}

function readOne({ pin, mapId, keys }: MapRead): MapReading | undefined {
  using fd = tryOpenPin(pin);
  if (fd === undefined) return undefined;
  const info = { name: pin.slice(pin.lastIndexOf('/') + 1), ...mapInfo(fd.number) };
  if (info.id !== mapId) return undefined;
  const { type, keySize, valueSize, cpus = 1 } = info;
  const stride = isPerCpuKind(type) ? perCpuValueSize(valueSize) : valueSize;
  const layout = { keySize, valueSize: stride * cpus };
  if ('atMost' in keys) return { ...readAll(fd.number, layout, keys.atMost, info.name), stride };
  if (isPrefixKind(type)) {
    const values = lookupExactly({ fd: fd.number, info }, keys);
    return { keys, values: values.map((value) => value ?? Buffer.alloc(valueSize)), stride, more: false };
  }
  return { keys, values: readSome(fd.number, layout, keys, info.name), stride, more: false };
}

/** Sizes in bytes of what the kernel reads and writes. */
interface Sizes {
  readonly keySize: number;
  readonly valueSize: number;
}

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
  { keySize, valueSize }: Sizes,
  atMost: number,
  name: string,
): Pick<MapReading, 'keys' | 'values' | 'more'> {
  // One more than is wanted tells whether there are more.
  const room = atMost + 1;
  const [keys, values] = [Buffer.alloc(keySize * room), Buffer.alloc(valueSize * room)];
  // Of a hash map a u32, of other kinds a key.
  const next = Buffer.alloc(Math.max(keySize, 4));
  const count = Buffer.alloc(4);
  count.writeUInt32LE(room);
  const result = libbpf().bpf_map_lookup_batch(fd, null, next, keys, values, count, null);
  if (result !== -ENOENT && result !== -ENOSPC) check(result, `Cannot read all of the map ${name}`);
  // The kernel leaves the count as it was where it refuses before it begins; where a bucket does not fit, it has written the ones before.
  const found = Math.min(count.readUInt32LE(), atMost);
  const indices = Array.from({ length: found }, (_, index) => index);
  return {
    keys: indices.map((index) => keys.subarray(index * keySize, (index + 1) * keySize)),
    values: indices.map((index) => values.subarray(index * valueSize, (index + 1) * valueSize)),
    more: result !== -ENOENT || count.readUInt32LE() > atMost,
  };
}
