import {
  type ArrayLayout,
  type EnumLayout,
  type Field,
  fieldNamed,
  fieldNames,
  type IntLayout,
  type Layout,
  type StructLayout,
  type UnionLayout,
} from './layout.js';
import type { MapValue } from './program.js';
import {
  checkRange,
  describeBytes,
  encodeScalar,
  inBytes,
  integerBytes,
  invalid,
  parseBytes,
  parseInteger,
  parseSizedAddress,
  showValue,
  unexpected,
  type ValuePlace,
} from './scalar.js';

/** The maximum size of a struct that can be given as an object. Larger ones can be given byte by byte. */
const MAX_OBJECT_BYTES = 64 * 1024;

/**
 * Encodes a value of a payload as a key or value of a known layout:
 *
 *   integer   a number, or a number as text; an address of its size; true and false for `bool`
 *   enum      one of its names, or a number
 *   array     a list with all elements; for an array of `char` a text
 *   struct    an object with all fields; of a nameless union in it, those of one member
 *   union     an object with one of its members; the remaining bytes are 0
 *
 * Arrays, structs and unions also accept an address of their size, or `0x…` byte by byte. Without a layout, only the
 * size decides.
 *
 * @throws AgentError MAP_VALUE_INVALID for a value that does not fit; nothing is truncated, and no missing value is
 *   invented
 */
export function encodeValue(layout: Layout | undefined, size: number, value: MapValue, place: ValuePlace): Buffer {
  if (layout === undefined || layout.size !== size) return encodeUntyped(value, size, place);
  switch (layout.kind) {
    case 'int':
    case 'enum':
      return encodeNumber(layout, value, place);
    case 'array':
      return wholeBytes(value, size) ?? encodeArray(layout, value, place);
    case 'struct':
      return wholeBytes(value, size) ?? encodeStruct(layout, value, place);
    case 'union':
      return wholeBytes(value, size) ?? encodeUnion(layout, value, place);
    case 'opaque': {
      const bytes = wholeBytes(value, size);
      if (bytes !== undefined) return bytes;
      throw unexpected(`${describeBytes(size)}, since it is ${layout.what},`, value, size, place);
    }
  }
}

function encodeUntyped(value: MapValue, size: number, place: ValuePlace): Buffer {
  if (typeof value === 'object') {
    const message = `${place.what} cannot be ${showValue(value)}: its BTF does not name its type`;
    throw invalid(`${message}; give ${describeBytes(size)}`, place);
  }
  return encodeScalar(value, size, place);
}

function encodeNumber(layout: IntLayout | EnumLayout, value: MapValue, place: ValuePlace): Buffer {
  const { size } = layout;
  const address = parseSizedAddress(value, size);
  if (address !== undefined) return address;
  // An integer of 16 bytes.
  if (size > 8) return encodeUntyped(value, size, place);
  const bytes = integerBytes(integerOf(layout, size * 8, value, place), size);
  return layout.network ? bytes.reverse() : bytes;
}

/** @param bits the width of the number */
function integerOf(layout: IntLayout | EnumLayout, bits: number, value: MapValue, place: ValuePlace): bigint {
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

/** Any object may also be given byte by byte, or as an address of its size. */
function wholeBytes(value: MapValue, size: number): Buffer | undefined {
  return parseSizedAddress(value, size) ?? parseBytes(value, size);
}

function encodeArray({ length, element, size, text }: ArrayLayout, value: MapValue, place: ValuePlace): Buffer {
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

function encodeStruct(layout: StructLayout, value: MapValue, place: ValuePlace): Buffer {
  const names = fieldNames(layout).filter((name) => !isKernels(fieldNamed(layout, name)!));
  const given = checkObject(layout, value, `{${names.join(', ')}}`, place);
  const bytes = Buffer.alloc(layout.size);
  putFields(bytes, layout, 0, given, layout.name, place);
  return bytes;
}

function encodeUnion(layout: UnionLayout, value: MapValue, place: ValuePlace): Buffer {
  const given = checkObject(layout, value, `with one of {${fieldNames(layout).join(', ')}}`, place);
  const bytes = Buffer.alloc(layout.size);
  putMember(bytes, layout, 0, given, layout.name, place);
  return bytes;
}

type GivenValue = Readonly<Record<string, MapValue>>;

/** @throws AgentError MAP_VALUE_INVALID unless the value is an object of known fields */
function checkObject(
  layout: StructLayout | UnionLayout,
  value: MapValue,
  shape: string,
  place: ValuePlace,
): GivenValue {
  const { name, size } = layout;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw unexpected(`an object ${shape}, or ${describeBytes(size)}`, value, size, place);
  }
  if (size > MAX_OBJECT_BYTES)
    throw invalid(`${place.what} is too large for an object: it has ${inBytes(size)}`, place);
  for (const key of Object.keys(value)) {
    const field = fieldNamed(layout, key);
    if (field !== undefined && !isKernels(field)) continue;
    const others = fieldNames(layout).filter((other) => !isKernels(fieldNamed(layout, other)!));
    const why = field !== undefined ? 'which only the kernel writes; leave it out' : `only ${others.join(', ')}`;
    const has = field !== undefined ? '' : 'no ';
    throw invalid(`${name} has ${has}field ${showValue(key)}, ${why}`, fieldPlace(place, key));
  }
  return value as GivenValue;
}

/** @param base offset of the struct within the bytes, in bits. @param whose name of the struct that has a name */
function putFields(
  bytes: Buffer,
  { fields }: Pick<StructLayout, 'fields'>,
  base: number,
  given: GivenValue,
  whose: string,
  place: ValuePlace,
): void {
  for (const field of fields) {
    if (isKernels(field)) continue;
    const bitOffset = base + field.bitOffset;
    if (field.name === '' && field.layout.kind === 'union') {
      putMember(bytes, field.layout, bitOffset, given, whose, place);
    } else if (field.name === '' && field.layout.kind === 'struct') {
      putFields(bytes, field.layout, bitOffset, given, whose, place);
    } else {
      const at = fieldPlace(place, field.name);
      const value = Object.hasOwn(given, field.name) ? given[field.name] : undefined;
      if (value === undefined) throw invalid(`${at.what} is missing; every field of ${whose} must be given`, at);
      putField(bytes, { ...field, bitOffset }, value, at);
    }
  }
}

/** Of a union exactly one member can be meant: they share their bytes. The bytes behind it stay 0. */
function putMember(
  bytes: Buffer,
  union: UnionLayout,
  base: number,
  given: GivenValue,
  whose: string,
  place: ValuePlace,
): void {
  const meant = union.fields.filter((member) => namesOf(member).some((name) => Object.hasOwn(given, name)));
  const [member] = meant;
  if (member === undefined || meant.length > 1) {
    const choice = union.fields.map((each) => namesOf(each).join(' and ')).join(', or ');
    const has = member === undefined ? 'none of them is given' : 'more than one of them is given';
    throw invalid(`Of ${whose} in ${place.what}, give ${choice}: they share their bytes, and ${has}`, place);
  }
  putFields(bytes, { fields: [member] }, base, given, whose, place);
}

function namesOf({ name, layout }: Field): readonly string[] {
  if (name !== '') return [name];
  return layout.kind === 'struct' || layout.kind === 'union' ? fieldNames(layout) : [];
}

function isKernels({ layout }: Field): boolean {
  return layout.kind === 'opaque' && layout.kernel;
}

function putField(bytes: Buffer, { layout, bitOffset, bits }: Field, value: MapValue, place: ValuePlace): void {
  if (bits === undefined) {
    bytes.set(encodeValue(layout, layout.size, value, place), bitOffset / 8);
    return;
  }
  if (layout.kind !== 'int' && layout.kind !== 'enum')
    throw invalid(`${place.what} is not a bit-field of a number`, place);
  const integer = BigInt.asUintN(bits, integerOf(layout, bits, value, place));
  // On little endian, bit n of a struct is bit n % 8 of byte n / 8.
  for (let bit = 0; bit < bits; bit++) {
    const [at, isSet] = [bitOffset + bit, (integer >> BigInt(bit)) & 1n];
    if (isSet === 1n) bytes[at >> 3] = bytes[at >> 3]! | (1 << (at & 7));
  }
}

/** Names that are long or that may contain dots appear only in the message. */
function fieldPlace({ path, what }: ValuePlace, field: string): ValuePlace {
  const isPlain = /^[A-Za-z0-9_]{1,64}$/.test(field);
  return { path: isPlain ? `${path}.${field}` : path, what: `${field} in ${what}` };
}
