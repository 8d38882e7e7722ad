/*
 * BTF, the type information of eBPF objects, as the section `.BTF` of an object file has it and as the kernel hands it out again
 * (Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
 */

export interface BtfType {
  readonly name: string;
  readonly kind: number;
  /** Size in bytes, or the type that it refers to, as the kind has it. */
  readonly size: number;
  /** What the kind makes of it: members with bit-fields, signed enums. */
  readonly flag: boolean;
  /** Of a struct or union, and of a data section its variables. */
  readonly members: readonly BtfMember[];
  /** Of an enum. */
  readonly values: ReadonlyMap<string, bigint>;
  readonly array: { readonly type: number; readonly length: number } | undefined;
  /** Of an integer: how it is encoded, and its bits. */
  readonly int: number;
}

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  /** As it stands in the file: in bits, with the width of a bit-field in the upper 8 bits if the type's flag is set. */
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
  DATASEC: 15,
  ENUM64: 19,
} as const;

/** Bytes that follow a type's header, per element, by kind. */
const TRAILER: Readonly<Record<number, { fixed?: number; each?: number }>> = {
  1: { fixed: 4 },
  3: { fixed: 12 },
  4: { each: 12 },
  5: { each: 12 },
  6: { each: 8 },
  13: { each: 8 },
  14: { fixed: 4 },
  15: { each: 12 },
  17: { fixed: 4 },
  19: { each: 12 },
};

const VOID: BtfType = {
  name: 'void',
  kind: 0,
  size: 0,
  flag: false,
  members: [],
  values: new Map(),
  array: undefined,
  int: 0,
};

/** All types by their ids. @throws RangeError where the data is cut short or damaged */
export function readBtf(data: Buffer): BtfType[] {
  const headerLength = data.readUInt32LE(4);
  const [typeOffset, typeLength, stringOffset] = [data.readUInt32LE(8), data.readUInt32LE(12), data.readUInt32LE(16)];
  const strings = data.subarray(headerLength + stringOffset);
  const nameAt = (at: number) => cString(strings, data.readUInt32LE(at));
  const end = headerLength + typeOffset + typeLength;
  const types: BtfType[] = [VOID];
  for (let at = headerLength + typeOffset; at < end; ) {
    const info = data.readUInt32LE(at + 4);
    const [kind, count, body] = [(info >>> 24) & 0x1f, info & 0xffff, at + 12];
    const { fixed = 0, each = 0 } = TRAILER[kind] ?? {};
    // Kinds without elements may have any count: of a function it is the linkage, and a hostile file may say 65,535 in each of its types.
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
    });
    at = body + fixed + each * count;
  }
  return types;
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
const WRAPPERS: ReadonlySet<number> = new Set([8, 9, 10, 11, 18]);

/** A type without the names and qualifiers around it, and those names, outermost first. */
export function unwrap(
  types: readonly BtfType[],
  id: number,
): { readonly id: number; readonly names: readonly string[] } {
  const names: string[] = [];
  let current = id;
  for (let steps = 0; WRAPPERS.has(types[current]!.kind); steps++) {
    if (steps > types.length) throw new RangeError('A type renames itself');
    if (types[current]!.kind === KIND.TYPEDEF) names.push(types[current]!.name);
    current = types[current]!.size;
  }
  return { id: current, names };
}

export function sizeOf(types: readonly BtfType[], id: number): number {
  const type = types[unwrap(types, id).id]!;
  if (type.kind === KIND.PTR) return 8;
  if (type.array !== undefined) return type.array.length * sizeOf(types, type.array.type);
  return type.size;
}

/** Names of the maps that an object declares in its section `.maps`. */
export function declaredMapNames(types: readonly BtfType[]): string[] {
  const section = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (section?.members ?? []).map(({ type }) => types[type]?.name ?? '');
}

export function cString(data: Buffer, offset: number): string {
  return data.toString('latin1', offset, data.indexOf(0, offset));
}
