import { AgentError } from '../errors.js';
import { parseAddress } from './address.js';
import type { MapValue } from './program.js';

/*
 * Numbers, addresses and byte strings. Map memory is in the host's byte order, which is little endian on every platform
 * that the agent supports. Addresses are in network order, because programs compare them with addresses in packets.
 */

/** Where a value is in the payload and what it is, for error messages. */
export interface ValuePlace {
  /** `0.bpf_programs.xdp_ingress.2.map_args.0.args.1.value.rate` */
  readonly path: string;
  /** `a value of limits` */
  readonly what: string;
}

/** Sizes of C's integers, in bytes. */
const INTEGER_SIZES: readonly number[] = [1, 2, 4, 8];

/**
 * Encodes a number, a number as text, an address or a byte string. The size alone decides what is accepted.
 *
 * @throws AgentError MAP_VALUE_INVALID
 */
export function encodeScalar(value: MapValue, size: number, place: ValuePlace): Buffer {
  const address = parseSizedAddress(value, size);
  if (address !== undefined) return address;
  if (!INTEGER_SIZES.includes(size)) return encodeBytes(value, size, place);
  const bits = size * 8;
  // It is unknown whether the integer is signed. So both ranges are accepted, and negative numbers are encoded as two's
  // complement.
  const range = { lowest: -(2n ** BigInt(bits - 1)), highest: 2n ** BigInt(bits) - 1n };
  return integerBytes(checkRange(parseInteger(value, size, place), range, inBytes(size), place), size);
}

/** @throws AgentError MAP_VALUE_INVALID if the value is not an integer */
export function parseInteger(value: MapValue, size: number, place: ValuePlace, alternative?: string): bigint {
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value)) return BigInt(value);
    if (Number.isInteger(value)) {
      throw invalid(`${value} is too large to be exact as a JSON number; give ${place.what} as a string`, place);
    }
  } else if (typeof value === 'string' && /^(-?[0-9]{1,64}|0x[0-9a-f]{1,64})$/i.test(value)) {
    return BigInt(value);
  }
  const other = alternative ?? (size === 4 ? 'an IPv4 address' : undefined);
  throw unexpected(`an integer${other === undefined ? '' : ` or ${other}`}`, value, size, place);
}

export interface Range {
  readonly lowest: bigint;
  readonly highest: bigint;
}

/** @param room the available size: `2 bytes` */
export function checkRange(integer: bigint, { lowest, highest }: Range, room: string, place: ValuePlace): bigint {
  if (integer >= lowest && integer <= highest) return integer;
  throw invalid(`${integer} does not fit ${place.what}, which has ${room}: expected ${lowest} to ${highest}`, place);
}

/** @param size 1, 2, 4 or 8 */
export function integerBytes(integer: bigint, size: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, integer));
  return bytes.subarray(0, size);
}

function encodeBytes(value: MapValue, size: number, place: ValuePlace): Buffer {
  const raw = parseBytes(value, size);
  if (raw !== undefined) return raw;
  throw unexpected(describeBytes(size), value, size, place);
}

/** `0x` and exactly two digits per byte, in memory order. */
export function parseBytes(value: MapValue, size: number): Buffer | undefined {
  if (typeof value !== 'string' || value.length !== 2 + size * 2 || !/^0x[0-9a-f]*$/i.test(value)) return undefined;
  return Buffer.from(value.slice(2), 'hex');
}

/** Parses an address of exactly this size; undefined for any other value. */
export function parseSizedAddress(value: MapValue, size: number): Buffer | undefined {
  const address = typeof value === 'string' ? parseAddress(value) : undefined;
  return address?.length === size ? address : undefined;
}

/** Describes the accepted texts for a number of bytes. */
export function describeBytes(size: number): string {
  const address = { 4: ' or an IPv4 address', 6: ' or a MAC address', 16: ' or an IPv6 address' }[size] ?? '';
  return `0x and ${size * 2} hexadecimal digits${address}`;
}

export function unexpected(expected: string, value: MapValue, size: number, place: ValuePlace): AgentError {
  return invalid(`Expected ${expected} as ${place.what}, which has ${inBytes(size)}; got ${showValue(value)}`, place);
}

export function invalid(message: string, { path }: Pick<ValuePlace, 'path'>): AgentError {
  return new AgentError('MAP_VALUE_INVALID', message, { path });
}

export function inBytes(size: number): string {
  return size === 1 ? '1 byte' : `${size} bytes`;
}

const SHOWN_CHARACTERS = 100;

/** Shows a value in a sentence. Large values are shortened. */
export function showValue(value: MapValue): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string' && value.length > SHOWN_CHARACTERS) {
    return `${JSON.stringify(value.slice(0, SHOWN_CHARACTERS))}…`;
  }
  return JSON.stringify(value);
}
