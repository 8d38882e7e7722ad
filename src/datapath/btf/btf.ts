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

/**
 * Bytes after a type's header, by kind: fixed, and for each element. The types after one of an unknown kind cannot be
 * found.
 */
const TRAILER: Readonly<Record<number, { fixed?: number; each?: number }>> = {
  1: { fixed: 4 },
  2: {},
  3: { fixed: 12 },
  4: { each: 12 },
  5: { each: 12 },
  6: { each: 8 },
  7: {},
  8: {},
  9: {},
  10: {},
  11: {},
  12: {},
  13: { each: 8 },
  14: { fixed: 4 },
  15: { each: 12 },
  16: {},
  17: { fixed: 4 },
  18: {},
  19: { each: 12 },
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
  if (data.readUInt16LE(0) !== BTF_MAGIC)
    throw new RangeError('The type information does not begin with its magic number');
  const headerLength = data.readUInt32LE(4);
  const [typeOffset, typeLength, stringOffset] = [data.readUInt32LE(8), data.readUInt32LE(12), data.readUInt32LE(16)];
  const stringsBegin = headerLength + stringOffset;
  const strings = data.subarray(stringsBegin, stringsBegin + data.readUInt32LE(20));
  const nameAt = (at: number) => {
    const offset = data.readUInt32LE(at);
    if (offset >= strings.length && offset !== 0)
      throw new RangeError(`A name lies outside the string section, at ${offset}`);
    return cString(strings, offset);
  };
  const end = headerLength + typeOffset + typeLength;
  const types: BtfType[] = [VOID];
  for (let at = headerLength + typeOffset; at < end; ) {
    const info = data.readUInt32LE(at + 4);
    const [kind, count, body] = [(info >>> 24) & 0x1f, info & 0xffff, at + 12];
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
      name: nameAt(at),
      kind,
      size: data.readUInt32LE(at + 8),
      flag,
      members: membersAt(kind, places, data, nameAt),
      values: valuesAt(kind, flag, places, data, nameAt),
      array: kind === KIND.ARRAY ? { type: data.readUInt32LE(body), length: data.readUInt32LE(body + 8) } : undefined,
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
  const own = REFERRING.has(kind) ? [data.readUInt32LE(at + 8)] : [];
  if (kind === KIND.ARRAY) return [data.readUInt32LE(at + 12), data.readUInt32LE(at + 16)];
  if (kind === KIND.DATASEC) return places.map((place) => data.readUInt32LE(place));
  const hasTypes = kind === KIND.STRUCT || kind === KIND.UNION || kind === KIND.FUNC_PROTO;
  return hasTypes ? [...own, ...places.map((place) => data.readUInt32LE(place + 4))] : own;
}

function membersAt(kind: number, places: readonly number[], data: Buffer, nameAt: (at: number) => string): BtfMember[] {
  if (kind === KIND.DATASEC) {
    return places.map((at) => ({ name: '', type: data.readUInt32LE(at), offset: data.readUInt32LE(at + 4) }));
  }
  if (kind !== KIND.STRUCT && kind !== KIND.UNION) return [];
  return places.map((at) => ({ name: nameAt(at), type: data.readUInt32LE(at + 4), offset: data.readUInt32LE(at + 8) }));
}

function valuesAt(
  kind: number,
  signed: boolean,
  places: readonly number[],
  data: Buffer,
  nameAt: (at: number) => string,
): ReadonlyMap<string, bigint> {
  if (kind !== KIND.ENUM && kind !== KIND.ENUM64) return VOID.values;
  const valueAt = (at: number) => {
    if (kind === KIND.ENUM) return BigInt(signed ? data.readInt32LE(at) : data.readUInt32LE(at));
    return signed ? data.readBigInt64LE(at) : data.readBigUInt64LE(at);
  };
  return new Map(places.map((at) => [nameAt(at), valueAt(at + 4)]));
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
