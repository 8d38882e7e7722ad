import type { ArrayLayout, EnumLayout, Field, IntLayout, Layout, StructLayout } from './layout.js';
import type { MapValue } from './program.js';
import {
  checkRange,
  describeBytes,
  encodeScalar,
  inBytes,
  integerBytes,
  invalid,
  type Place,
  parseBytes,
  parseInteger,
  parseSizedAddress,
  showValue,
  unexpected,
} from './scalar.js';

/** No object is made larger than this; what is can be given byte by byte. */
const MAX_OBJECT_BYTES = 64 * 1024;

/**
 * The bytes that a value of a payload stands for in a key or value of a known layout:
 *
 *   integer   a number, or a text of one; an address of its size; true and false for `bool`
 *   enum      a name of it, or a number
 *   array     a list with all elements; for one of `char` a text
 *   struct    an object with all fields
 *
 * and for arrays, structs and unions also an address of their size, or `0x…` byte by byte. Without a layout the size alone decides.
 *
 * @throws AgentError MAP_VALUE_INVALID for what does not fit: nothing is truncated, and nothing that is not given is made up
 */
export function encodeValue(layout: Layout | undefined, size: number, value: MapValue, place: Place): Buffer {
  if (layout === undefined || layout.size !== size) return encodeUntyped(value, size, place);
  switch (layout.kind) {
    case 'int':
    case 'enum':
      return encodeNumber(layout, value, place);
    case 'array':
      return wholeBytes(value, size) ?? encodeArray(layout, value, place);
    case 'struct':
      return wholeBytes(value, size) ?? encodeStruct(layout, value, place);
    case 'opaque': {
      const bytes = wholeBytes(value, size);
      if (bytes !== undefined) return bytes;
      throw unexpected(`${describeBytes(size)}, since it is ${layout.what},`, value, size, place);
    }
  }
}

function encodeUntyped(value: MapValue, size: number, place: Place): Buffer {
  if (typeof value === 'object') {
    const message = `${place.what} cannot be ${showValue(value)}: its BTF does not tell of what type it is`;
    throw invalid(`${message}; give ${describeBytes(size)}`, place);
  }
  return encodeScalar(value, size, place);
}

function encodeNumber(layout: IntLayout | EnumLayout, value: MapValue, place: Place): Buffer {
  const { size } = layout;
  const address = parseSizedAddress(value, size);
  if (address !== undefined) return address;
  // An integer of 16 bytes.
  if (size > 8) return encodeUntyped(value, size, place);
  const bytes = integerBytes(integerOf(layout, size * 8, value, place), size);
  return layout.network ? bytes.reverse() : bytes;
}

/** @param bits how wide the number is */
function integerOf(layout: IntLayout | EnumLayout, bits: number, value: MapValue, place: Place): bigint {
  const { size, signed } = layout;
  const room = bits === size * 8 ? inBytes(size) : `${bits} ${bits === 1 ? 'bit' : 'bits'}`;
  if (layout.kind === 'int' && layout.bool) {
    const truth = typeof value === 'boolean' ? BigInt(value) : parseInteger(value, size, place, 'true or false');
    return checkRange(truth, { lowest: 0n, highest: 1n }, room, place);
  }
  const named = layout.kind === 'enum' && typeof value === 'string' ? layout.values.get(value) : undefined;
  const alternative =
    layout.kind === 'enum' ? `one of ${[...layout.values.keys()].slice(0, 20).join(', ')}` : undefined;
  const integer = named ?? parseInteger(value, size, place, alternative);
  const half = 2n ** BigInt(bits - 1);
  const range = signed ? { lowest: -half, highest: half - 1n } : { lowest: 0n, highest: 2n * half - 1n };
  return checkRange(integer, range, room, place);
}

/** Any object may be given whole, byte by byte or as the address that it is. */
function wholeBytes(value: MapValue, size: number): Buffer | undefined {
  return parseSizedAddress(value, size) ?? parseBytes(value, size);
}

function encodeArray({ length, element, size, text }: ArrayLayout, value: MapValue, place: Place): Buffer {
  if (text && typeof value === 'string' && !/^0x/i.test(value)) {
    const bytes = Buffer.from(value);
    if (bytes.length < size) return Buffer.concat([bytes, Buffer.alloc(size - bytes.length)]);
    const message = `${showValue(value)} does not fit ${place.what}, which has ${inBytes(size)} with the zero at the end`;
    throw invalid(message, place);
  }
  if (!Array.isArray(value) || value.length !== length) {
    const expected = `a list of ${length}${text ? ', a text' : ''}, or ${describeBytes(size)}`;
    throw unexpected(expected, value, size, place);
  }
  const elements = (value as readonly MapValue[]).map((item, index) => {
    const at = { path: `${place.path}.${index}`, what: `element ${index} of ${place.what}` };
    return encodeValue(element, element.size, item, at);
  });
  return Buffer.concat(elements, size);
}

function encodeStruct(layout: StructLayout, value: MapValue, place: Place): Buffer {
  const { name, fields, size } = layout;
  const names = fields.filter((field) => field.name !== '' && !isKernels(field)).map((field) => field.name);
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw unexpected(`an object {${names.join(', ')}}, or ${describeBytes(size)}`, value, size, place);
  }
  if (fields.some((field) => field.name === '')) {
    const message = `${place.what} cannot be an object: ${name} has a nameless union, of which it is open what field is meant`;
    throw invalid(`${message}; give ${describeBytes(size)}`, place);
  }
  if (size > MAX_OBJECT_BYTES)
    throw invalid(`${place.what} is too large for an object: it has ${inBytes(size)}`, place);
  for (const key of Object.keys(value)) {
    if (names.includes(key)) continue;
    const isOwned = fields.some((field) => field.name === key);
    const why = isOwned ? 'which only the kernel writes; leave it out' : `only ${names.join(', ')}`;
    throw invalid(`${name} has ${isOwned ? '' : 'no '}field ${showValue(key)}, ${why}`, fieldPlace(place, key));
  }
  const bytes = Buffer.alloc(size);
  for (const field of fields) {
    if (isKernels(field)) continue;
    const at = fieldPlace(place, field.name);
    const given = Object.hasOwn(value, field.name) ? (value as Record<string, MapValue>)[field.name] : undefined;
    if (given === undefined) throw invalid(`${at.what} is missing; every field of ${name} has to be given`, at);
    putField(bytes, field, given, at);
  }
  return bytes;
}

function isKernels({ layout }: Field): boolean {
  return layout.kind === 'opaque' && layout.kernel;
}

function putField(bytes: Buffer, { layout, bitOffset, bits }: Field, value: MapValue, place: Place): void {
  if (bits === undefined) {
    bytes.set(encodeValue(layout, layout.size, value, place), bitOffset / 8);
    return;
  }
  if (layout.kind !== 'int' && layout.kind !== 'enum') throw invalid(`${place.what} is no number of bits`, place);
  const integer = BigInt.asUintN(bits, integerOf(layout, bits, value, place));
  // On little endian, bit n of a struct is bit n % 8 of byte n / 8.
  for (let bit = 0; bit < bits; bit++) {
    const [at, isSet] = [bitOffset + bit, (integer >> BigInt(bit)) & 1n];
    if (isSet === 1n) bytes[at >> 3] = bytes[at >> 3]! | (1 << (at & 7));
  }
}

/** Names that are long, or may hold dots, stand in the message only. */
function fieldPlace({ path, what }: Place, field: string): Place {
  const isPlain = /^[A-Za-z0-9_]{1,64}$/.test(field);
  return { path: isPlain ? `${path}.${field}` : path, what: `${field} in ${what}` };
}
