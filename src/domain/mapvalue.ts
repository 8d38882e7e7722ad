import { AgentError } from '../errors.js';
import { parseAddress } from './address.js';
import type { MapInfo } from './observed.js';
import type { MapArgs, MapValue } from './program.js';
import { inBytes, invalid, type Place, parseBytes, showValue, unexpected } from './scalar.js';
import { encodeValue } from './structvalue.js';

/*
 * From a payload's `map_args` to the raw bytes of a map's keys and values.
 */

/** `enum bpf_map_type` of include/uapi/linux/bpf.h, as far as its members are treated in a way of their own. */
const ARRAY = 2;
export const PROG_ARRAY = 3;
const PERCPU_HASH = 5;
const PERCPU_ARRAY = 6;
const LRU_PERCPU_HASH = 10;
const LPM_TRIE = 11;

/** What encoding needs to know of a map. */
export type MapShape = Omit<MapInfo, 'id'>;

/** Raw bytes in hexadecimal, without prefix. */
export interface RawEntry {
  readonly key: string;
  readonly value: string;
}

/** Whether all keys of a map always exist, so that none can be deleted. */
export function isArrayKind(type: number): boolean {
  return type === ARRAY || type === PERCPU_ARRAY;
}

/** Whether a lookup in a map answers for the longest prefix that covers a key, and not for the key itself. */
export function isPrefixKind(type: number): boolean {
  return type === LPM_TRIE;
}

/** Whether a map holds one value per possible CPU under each key. */
export function isPerCpuKind(type: number): boolean {
  return type === PERCPU_HASH || type === PERCPU_ARRAY || type === LRU_PERCPU_HASH;
}

/** Bytes that one CPU's value takes in what user space reads and writes (kernel/bpf/syscall.c, bpf_map_value_size). */
export function perCpuValueSize(valueSize: number): number {
  return Math.ceil(valueSize / 8) * 8;
}

/**
 * The entries that a payload wants in a map, as bytes of the map's own key and value size. {@link encodeValue} tells what is
 * accepted by the types that the map's BTF names, and where it names none, by the size alone. Beyond that:
 *
 *   keys of an LPM trie          `<address>/<length>`, or the whole key
 *   values of a per-CPU map      one value for all CPUs, or a list of one for each possible CPU
 *
 * @param path where the arguments stand in the payload: `0.bpf_programs.xdp_ingress.2.map_args.0`
 * @returns the value of a per-CPU map in its own size for all CPUs, or as the kernel takes one for each
 * @throws AgentError MAP_VALUE_INVALID for what does not fit: nothing is ever truncated
 */
export function encodeMapArgs(map: MapShape, args: MapArgs, path: string): RawEntry[] {
  const entries = args.args.map(({ key, value }, index) => {
    const at = `${path}.args.${index}`;
    const rawKey = encodeKey(map, key, { path: `${at}.key`, what: `a key of ${map.name}` });
    const rawValue = encodeEntryValue(map, value, { path: `${at}.value`, what: `a value of ${map.name}` });
    return { key: rawKey.toString('hex'), value: rawValue.toString('hex') };
  });
  // Two texts may name one key (16 and 0x10): the later entry stands, as if they were written one after the other.
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  if (byKey.size > map.maxEntries) {
    const message = `${map.name} holds at most ${map.maxEntries} entries, got ${byKey.size}`;
    throw new AgentError('MAP_VALUE_INVALID', message, { path: `${path}.args` });
  }
  return [...byKey.values()];
}

/** The bytes of a key that a payload names. @throws AgentError MAP_VALUE_INVALID for one that the map cannot have */
export function encodeKey(map: MapShape, key: MapValue, place: Place): Buffer {
  if (isPrefixKind(map.type)) return encodePrefix(map, key, place);
  const raw = encodeValue(map.key, map.keySize, key, place);
  if (!isArrayKind(map.type)) return raw;
  if (raw.length !== 4 || raw.readUInt32LE() >= map.maxEntries) {
    const last = map.maxEntries - 1;
    throw invalid(`${showValue(key)} is no key of the array ${map.name}, whose keys go from 0 to ${last}`, place);
  }
  return raw;
}

function encodeEntryValue(map: MapShape, value: MapValue, place: Place): Buffer {
  const { valueSize } = map;
  if (!isPerCpuKind(map.type) || !Array.isArray(value)) return encodeValue(map.value, valueSize, value, place);
  const cpus = map.cpus ?? 1;
  if (value.length !== cpus) {
    const message = `Expected one value for all CPUs or a list of ${cpus}, one for each possible CPU, as ${place.what}`;
    throw invalid(`${message}; got ${showValue(value)}`, place);
  }
  const values = (value as readonly MapValue[]).map((one, cpu) => {
    const at = { path: `${place.path}.${cpu}`, what: `${place.what} for CPU ${cpu}` };
    const raw = encodeValue(map.value, valueSize, one, at);
    return Buffer.concat([raw, Buffer.alloc(perCpuValueSize(valueSize) - valueSize)]);
  });
  return Buffer.concat(values);
}

/**
 * The one form of an LPM trie's key: the bits behind the prefix are 0. The kernel takes keys that differ only there for the same
 * (trie_update_elem in kernel/bpf/lpm_trie.c).
 *
 * @param key `struct bpf_lpm_trie_key`: the prefix length as u32 in host order, then the address
 */
export function canonicalPrefix(key: Buffer): Buffer {
  const length = key.readUInt32LE();
  return Buffer.from(key.map((byte, index) => (index < 4 ? byte : byte & maskOf(length - (index - 4) * 8))));
}

/** @param bits how many leading bits of a byte are kept */
function maskOf(bits: number): number {
  return bits >= 8 ? 0xff : bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff;
}

function encodePrefix({ key: layout, keySize }: MapShape, key: MapValue, place: Place): Buffer {
  const raw =
    parseBytes(key, keySize) ?? (typeof key === 'object' ? encodeValue(layout, keySize, key, place) : undefined);
  const prefix = raw ?? parsePrefix(key, keySize, place);
  const longest = (keySize - 4) * 8;
  if (prefix.length <= 4) throw invalid(`${place.what} has ${inBytes(keySize)}, too few for a prefix`, place);
  const length = prefix.readUInt32LE();
  if (length > longest)
    throw invalid(`The prefix length of ${showValue(key)} is ${length}, more than ${longest}`, place);
  return canonicalPrefix(prefix);
}

function parsePrefix(key: MapValue, keySize: number, place: Place): Buffer {
  const [, address = '', length = ''] = /^([^/]+)\/([0-9]{1,3})$/.exec(typeof key === 'string' ? key : '') ?? [];
  const bytes = parseAddress(address);
  if (bytes === undefined || bytes.length !== keySize - 4) {
    const family = keySize === 8 ? 'IPv4 ' : keySize === 20 ? 'IPv6 ' : '';
    const example = keySize === 20 ? '2001:db8::/32' : '10.0.0.0/8';
    throw unexpected(`an ${family}prefix like ${example}`, key, keySize, place);
  }
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(Number(length));
  return Buffer.concat([prefix, bytes]);
}
