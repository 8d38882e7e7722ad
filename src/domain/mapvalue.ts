import { AgentError } from '../errors.js';
import type { MapInfo } from './observed.js';
import type { MapArgs, MapScalar } from './program.js';

/*
 * From the numbers and strings of a payload's `map_args` to the raw bytes of a map's keys and values. Map memory is in the
 * host's byte order, which is little endian on every platform that the agent runs on; addresses are in network order, since
 * programs compare them with what stands in the packet.
 */

/** `enum bpf_map_type` of include/uapi/linux/bpf.h, as far as its members are treated in a way of their own. */
const ARRAY = 2;
const PERCPU_HASH = 5;
const PERCPU_ARRAY = 6;
const LRU_PERCPU_HASH = 10;
const LPM_TRIE = 11;

/** What encoding needs to know of a map. */
export type MapShape = Pick<MapInfo, 'name' | 'type' | 'keySize' | 'valueSize' | 'maxEntries'>;

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
 * The entries that a payload wants in a map, as bytes of the map's own key and value size. Accepted are, by size:
 *
 *   1, 2, 4, 8   integers: numbers, and decimal or `0x…` strings; negative ones as two's complement
 *   4            IPv4 addresses
 *   6            MAC addresses
 *   16           IPv6 addresses
 *   any other    `0x…` with exactly two digits per byte, byte by byte in the order of memory
 *
 * and for the keys of an LPM trie `<address>/<length>`, or the whole key byte by byte as `0x…`.
 *
 * @param path where the arguments stand in the payload: `0.bpf_programs.xdp_ingress.2.map_args.0`
 * @throws AgentError MAP_VALUE_INVALID for what does not fit: nothing is ever truncated
 */
export function encodeMapArgs(map: MapShape, args: MapArgs, path: string): RawEntry[] {
  const entries = args.args.map(({ key, value }, index) => {
    const at = `${path}.args.${index}`;
    const rawKey = encodeKey(map, key, `${at}.key`);
    const rawValue = encodeScalar(value, map.valueSize, `a value of ${map.name}`, `${at}.value`);
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

function encodeKey(map: MapShape, key: MapScalar, path: string): Buffer {
  const what = `a key of ${map.name}`;
  if (map.type === LPM_TRIE) return encodePrefix(key, map.keySize, what, path);
  const raw = encodeScalar(key, map.keySize, what, path);
  if (isArrayKind(map.type) && raw.readUInt32LE() >= map.maxEntries) {
    throw invalid(
      `${show(key)} is no key of the array ${map.name}, whose keys go from 0 to ${map.maxEntries - 1}`,
      path,
    );
  }
  return raw;
}

function encodeScalar(scalar: MapScalar, size: number, what: string, path: string): Buffer {
  if (typeof scalar === 'string') {
    const address = parseAddress(scalar);
    if (address?.length === size) return address;
  }
  if (![1, 2, 4, 8].includes(size)) return encodeBytes(scalar, size, what, path);
  return encodeInteger(parseInteger(scalar, size, what, path), size, what, path);
}

function encodeInteger(integer: bigint, size: number, what: string, path: string): Buffer {
  const bits = BigInt(size * 8);
  const [lowest, highest] = [-(1n << (bits - 1n)), (1n << bits) - 1n];
  if (integer < lowest || integer > highest) {
    const message = `${integer} does not fit ${what}, which has ${inBytes(size)}: expected ${lowest} to ${highest}`;
    throw invalid(message, path);
  }
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, integer));
  return bytes.subarray(0, size);
}

function parseInteger(scalar: MapScalar, size: number, what: string, path: string): bigint {
  if (typeof scalar === 'number') {
    if (Number.isSafeInteger(scalar)) return BigInt(scalar);
    if (Number.isInteger(scalar)) {
      throw invalid(`${scalar} is too large to be exact as a JSON number; give ${what} as a string`, path);
    }
  } else if (/^(-?[0-9]+|0x[0-9a-f]+)$/i.test(scalar)) {
    return BigInt(scalar);
  }
  const address = size === 4 ? ' or an IPv4 address' : '';
  throw invalid(`Expected an integer${address} as ${what}, which has ${inBytes(size)}; got ${show(scalar)}`, path);
}

function encodeBytes(scalar: MapScalar, size: number, what: string, path: string): Buffer {
  const raw = parseBytes(scalar, size);
  if (raw !== undefined) return raw;
  const address = size === 16 ? ' or an IPv6 address' : size === 6 ? ' or a MAC address' : '';
  const expected = `0x and ${size * 2} hexadecimal digits${address}`;
  throw invalid(`Expected ${expected} as ${what}, which has ${inBytes(size)}; got ${show(scalar)}`, path);
}

function parseBytes(scalar: MapScalar, size: number): Buffer | undefined {
  if (typeof scalar !== 'string' || scalar.length !== 2 + size * 2 || !/^0x[0-9a-f]*$/i.test(scalar)) return undefined;
  return Buffer.from(scalar.slice(2), 'hex');
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

function encodePrefix(key: MapScalar, keySize: number, what: string, path: string): Buffer {
  return canonicalPrefix(parsePrefix(key, keySize, what, path));
}

function parsePrefix(key: MapScalar, keySize: number, what: string, path: string): Buffer {
  const raw = parseBytes(key, keySize);
  if (raw !== undefined) return raw;
  const [, address = '', length = ''] = /^([^/]+)\/([0-9]{1,3})$/.exec(String(key)) ?? [];
  const bytes = parseAddress(address);
  if (bytes === undefined || bytes.length !== keySize - 4) {
    const family = keySize === 8 ? 'IPv4 ' : keySize === 20 ? 'IPv6 ' : '';
    const expected = `an ${family}prefix like ${keySize === 20 ? '2001:db8::/32' : '10.0.0.0/8'}`;
    throw invalid(`Expected ${expected} as ${what}, which has ${inBytes(keySize)}; got ${show(key)}`, path);
  }
  const longest = bytes.length * 8;
  if (Number(length) > longest) throw invalid(`The prefix length of ${show(key)} is more than ${longest}`, path);
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(Number(length));
  return Buffer.concat([prefix, bytes]);
}

/** An IPv4, IPv6 or MAC address in network order. */
function parseAddress(text: string): Buffer | undefined {
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return Buffer.from(text.replaceAll(':', ''), 'hex');
  return parseIpv4(text) ?? parseIpv6(text);
}

function parseIpv4(text: string): Buffer | undefined {
  const parts = text.split('.');
  // A leading zero would be octal to some and decimal to others.
  const sound = parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255);
  return sound ? Buffer.from(parts.map(Number)) : undefined;
}

/** All forms of RFC 4291, section 2.2; without a zone, which means nothing in a packet. */
function parseIpv6(text: string): Buffer | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const zeros = 16 - head.length - (tail?.length ?? 0);
  if (tail === undefined ? zeros !== 0 : zeros < 2) return undefined;
  return Buffer.concat([head, Buffer.alloc(zeros), tail ?? Buffer.alloc(0)]);
}

/** Groups of 16 bits between colons, the last of them perhaps with an IPv4 address in its place. */
function parseGroups(text: string, mayEndInIpv4: boolean): Buffer | undefined {
  if (text === '') return Buffer.alloc(0);
  const groups = text.split(':');
  const bytes = groups.map((group, index) => {
    if (/^[0-9a-f]{1,4}$/i.test(group)) return Buffer.from(group.padStart(4, '0'), 'hex');
    return mayEndInIpv4 && index === groups.length - 1 ? parseIpv4(group) : undefined;
  });
  return bytes.includes(undefined) ? undefined : Buffer.concat(bytes as Buffer[]);
}

function invalid(message: string, path: string): AgentError {
  return new AgentError('MAP_VALUE_INVALID', message, { path });
}

function inBytes(size: number): string {
  return size === 1 ? '1 byte' : `${size} bytes`;
}

function show(scalar: MapScalar): string {
  return JSON.stringify(scalar);
}
