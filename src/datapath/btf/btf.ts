import { Struct } from '../struct.js';

/*
 * BTF, the type information of eBPF objects, as it is in the section `.BTF` of an object file and as the kernel returns
 * it (Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
 */

export interface BtfType {
  readonly name: string;
  readonly kind: number;
  /** Depending on the kind: size in bytes, or id of the type that it refers to. */
  readonly size: number;
  /** The meaning depends on the kind: members with bit-fields, signed enums. */
  readonly flag: boolean;
  /** Of a struct or union; for a data section its variables. */
  readonly members: readonly BtfMember[];
  /** Of an enum. */
  readonly values: ReadonlyMap<string, bigint>;
  readonly array: { readonly type: number; readonly length: number } | undefined;
  /** Of an integer: encoding, offset and number of bits. */
  readonly int: number;
  /** Ids of all types that it refers to. */
  readonly refers: readonly number[];
}

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  /** As in the file: in bits, with the width of a bit-field in the upper 8 bits if the type's flag is set. */
  readonly offset: number;
}

/** `enum` of include/uapi/linux/btf.h. */
export const KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  TYPEDEF: 8,
  FUNC: 12,
  FUNC_PROTO: 13,
  DATASEC: 15,
  ENUM64: 19,
} as const;

/* The structures of the format, for which include/uapi/linux/btf.h has the names. */

const HEADER = new Struct('btf_header', {
  magic: 'u16',
  version: 'u8',
  flags: 'u8',
  hdr_len: 'u32',
  type_off: 'u32',
  type_len: 'u32',
  str_off: 'u32',
  str_len: 'u32',
});

/** `size` shares its place with `type`. */
const TYPE = new Struct('btf_type', { name_off: 'u32', info: 'u32', size: 'u32' });

const ARRAY = new Struct('btf_array', { type: 'u32', index_type: 'u32', nelems: 'u32' });
const MEMBER = new Struct('btf_member', { name_off: 'u32', type: 'u32', offset: 'u32' });
const PARAM = new Struct('btf_param', { name_off: 'u32', type: 'u32' });
const ENUM = new Struct('btf_enum', { name_off: 'u32', val: 's32' });
const ENUM64 = new Struct('btf_enum64', { name_off: 'u32', val_lo32: 'u32', val_hi32: 'u32' });
const VARIABLE = new Struct('btf_var', { linkage: 'u32' });
const SECTION_VARIABLE = new Struct('btf_var_secinfo', { type: 'u32', offset: 'u32', size: 'u32' });
const DECLARATION_TAG = new Struct('btf_decl_tag', { component_idx: 's32' });

/** For the test that compares them with the header. */
export const BTF_STRUCTS = [
  HEADER,
  TYPE,
  ARRAY,
  MEMBER,
  PARAM,
  ENUM,
  ENUM64,
  VARIABLE,
  SECTION_VARIABLE,
  DECLARATION_TAG,
];

/** Encoding, offset and number of bits of an integer. */
const INT_BYTES = 4;

/**
 * Bytes after a type's header, by kind: fixed, and for each element. The types after one of an unknown kind cannot be
 * found.
 */
const TRAILER: Readonly<Record<number, { fixed?: number; each?: number }>> = {
  1: { fixed: INT_BYTES },
  2: {},
  3: { fixed: ARRAY.size },
  4: { each: MEMBER.size },
  5: { each: MEMBER.size },
  6: { each: ENUM.size },
  7: {},
  8: {},
  9: {},
  10: {},
  11: {},
  12: {},
  13: { each: PARAM.size },
  14: { fixed: VARIABLE.size },
  15: { each: SECTION_VARIABLE.size },
  16: {},
  17: { fixed: DECLARATION_TAG.size },
  18: {},
  19: { each: ENUM64.size },
};

/** The depth to which the kernel follows types (MAX_RESOLVE_DEPTH in kernel/bpf/btf.c). */
export const DEEPEST = 32;

/**
 * Longer than any name that the kernel accepts (KSYM_NAME_LEN). The limit applies to each name, since many may share
 * the end of one.
 */
const LONGEST_NAME = 1024;

const BTF_MAGIC = 0xeb9f;

const VOID: BtfType = {
  name: 'void',
  kind: 0,
  size: 0,
  flag: false,
  members: [],
  values: new Map(),
  array: undefined,
  int: 0,
  refers: [],
};

/** All types by their ids. @throws RangeError if the data is truncated or damaged */
export function readBtf(data: Buffer): BtfType[] {
  if (HEADER.read(data, 'magic') !== BTF_MAGIC)
    throw new RangeError('The type information does not begin with its magic number');
  const headerLength = HEADER.read(data, 'hdr_len');
  const begin = headerLength + HEADER.read(data, 'type_off');
  const stringsBegin = headerLength + HEADER.read(data, 'str_off');
  const strings = data.subarray(stringsBegin, stringsBegin + HEADER.read(data, 'str_len'));
  const nameOf = (offset: number) => {
    if (offset >= strings.length && offset !== 0)
      throw new RangeError(`A name lies outside the string section, at ${offset}`);
    return cString(strings, offset);
  };
  const end = begin + HEADER.read(data, 'type_len');
  const types: BtfType[] = [VOID];
  for (let at = begin; at < end; ) {
    const info = TYPE.read(data, 'info', at);
    const [kind, count, body] = [(info >>> 24) & 0x1f, info & 0xffff, at + TYPE.size];
    const trailer = TRAILER[kind];
    if (trailer === undefined) throw new RangeError(`Type ${types.length} is of unknown kind ${kind}`);
    const { fixed = 0, each = 0 } = trailer;
    if (body + fixed + each * count > end)
      throw new RangeError(`Type ${types.length} reaches beyond the end of the types`);
    // Kinds without elements may have any count: for a function it is the linkage, and a malicious file may claim
    // 65,535 in each type.
    const places = each === 0 ? [] : Array.from({ length: count }, (_, index) => body + index * each);
    const flag = info >>> 31 === 1;
    types.push({
      ...VOID,
      name: nameOf(TYPE.read(data, 'name_off', at)),
      kind,
      size: TYPE.read(data, 'size', at),
      flag,
      members: membersAt(kind, places, data, nameOf),
      values: valuesAt(kind, flag, places, data, nameOf),
      array:
        kind === KIND.ARRAY
          ? { type: ARRAY.read(data, 'type', body), length: ARRAY.read(data, 'nelems', body) }
          : undefined,
      int: kind === KIND.INT ? data.readUInt32LE(body) : 0,
      refers: idsAt(kind, at, places, data),
    });
    at = body + fixed + each * count;
  }
  return types;
}

/**
 * Kinds whose word after the name is a type id: pointers, typedefs and qualifiers, functions and their return types,
 * variables, tags.
 */
const REFERRING: ReadonlySet<number> = new Set([2, 8, 9, 10, 11, 12, 13, 14, 17, 18]);

function idsAt(kind: number, at: number, places: readonly number[], data: Buffer): number[] {
  const own = REFERRING.has(kind) ? [TYPE.read(data, 'size', at)] : [];
  const body = at + TYPE.size;
  if (kind === KIND.ARRAY) return [ARRAY.read(data, 'type', body), ARRAY.read(data, 'index_type', body)];
  if (kind === KIND.DATASEC) return places.map((place) => SECTION_VARIABLE.read(data, 'type', place));
  if (kind === KIND.FUNC_PROTO) return [...own, ...places.map((place) => PARAM.read(data, 'type', place))];
  const hasMembers = kind === KIND.STRUCT || kind === KIND.UNION;
  return hasMembers ? places.map((place) => MEMBER.read(data, 'type', place)) : own;
}

type NameOf = (offset: number) => string;

function membersAt(kind: number, places: readonly number[], data: Buffer, nameOf: NameOf): BtfMember[] {
  if (kind === KIND.DATASEC) {
    return places.map((at) => ({
      name: '',
      type: SECTION_VARIABLE.read(data, 'type', at),
      offset: SECTION_VARIABLE.read(data, 'offset', at),
    }));
  }
  if (kind !== KIND.STRUCT && kind !== KIND.UNION) return [];
  return places.map((at) => ({
    name: nameOf(MEMBER.read(data, 'name_off', at)),
    type: MEMBER.read(data, 'type', at),
    offset: MEMBER.read(data, 'offset', at),
  }));
}

function valuesAt(
  kind: number,
  signed: boolean,
  places: readonly number[],
  data: Buffer,
  nameOf: NameOf,
): ReadonlyMap<string, bigint> {
  if (kind === KIND.ENUM) {
    const valueAt = (at: number) => BigInt(ENUM.read(data, 'val', at));
    const bits = (value: bigint) => (signed ? value : BigInt.asUintN(32, value));
    return new Map(places.map((at) => [nameOf(ENUM.read(data, 'name_off', at)), bits(valueAt(at))]));
  }
  if (kind !== KIND.ENUM64) return VOID.values;
  const valueAt = (at: number) => {
    const [low, high] = [BigInt(ENUM64.read(data, 'val_lo32', at)), BigInt(ENUM64.read(data, 'val_hi32', at))];
    return signed ? BigInt.asIntN(64, (high << 32n) | low) : (high << 32n) | low;
  };
  return new Map(places.map((at) => [nameOf(ENUM64.read(data, 'name_off', at)), valueAt(at)]));
}

/** Kinds that only rename or qualify another type: typedef, volatile, const, restrict, type tag. */
export const WRAPPERS: ReadonlySet<number> = new Set([8, 9, 10, 11, 18]);

/** @throws RangeError if there is no such type */
export function typeAt(types: readonly BtfType[], id: number): BtfType {
  const type = types[id];
  if (type === undefined) throw new RangeError(`Type ${id} does not exist`);
  return type;
}

/**
 * A type without the typedefs and qualifiers around it, and the names of the typedefs, outermost first.
 *
 * @throws RangeError as {@link typeAt}, and for a type that refers to itself
 */
export function unwrap(
  types: readonly BtfType[],
  id: number,
): { readonly id: number; readonly names: readonly string[] } {
  const names: string[] = [];
  let current = id;
  for (let steps = 0; WRAPPERS.has(typeAt(types, current).kind); steps++) {
    if (steps > types.length) throw new RangeError('A type is a typedef or qualifier of itself');
    const { kind, name, size } = typeAt(types, current);
    if (kind === KIND.TYPEDEF) names.push(name);
    current = size;
  }
  return { id: current, names };
}

/** @throws RangeError as {@link unwrap}, and for an array that contains itself */
export function sizeOf(types: readonly BtfType[], id: number, depth = 0): number {
  if (depth > DEEPEST) throw new RangeError('An array contains itself');
  const type = typeAt(types, unwrap(types, id).id);
  if (type.kind === KIND.PTR) return 8;
  if (type.array !== undefined) return type.array.length * sizeOf(types, type.array.type, depth + 1);
  return type.size;
}

/** Names of the maps that an object declares in its section `.maps`. */
export function declaredMapNames(types: readonly BtfType[]): string[] {
  const section = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (section?.members ?? []).map(({ type }) => types[type]?.name ?? '');
}

/** A zero-terminated string; '' if it is not terminated; truncated if it is longer than any name. */
export function cString(data: Buffer, offset: number): string {
  const text = data.subarray(offset, offset + LONGEST_NAME);
  const end = text.indexOf(0);
  const isCut = end === -1 && text.length === LONGEST_NAME;
  return isCut ? text.toString('latin1') : text.toString('latin1', 0, Math.max(0, end));
}
