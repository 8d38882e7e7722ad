import { AgentError } from '../errors.js';

/** What an object file declares, as far as loading it needs to know. */
export interface ObjectFile {
  /** Names of the program functions. */
  readonly programs: readonly string[];
  readonly maps: readonly DeclaredMap[];
}

export interface DeclaredMap {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly index: number;
  readonly link: number;
  readonly data: Buffer;
}

interface BtfType {
  readonly name: string;
  readonly kind: number;
  /** Size or referenced type, as the kind has it. */
  readonly size: number;
  readonly members: readonly { readonly name: string; readonly type: number }[];
  /** Of an array: its element type and length. */
  readonly array: { readonly type: number; readonly length: number } | undefined;
}

const EM_BPF = 247;
const SHT_SYMTAB = 2;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;

/** `enum` of include/uapi/linux/btf.h. */
const KIND = { INT: 1, PTR: 2, ARRAY: 3, STRUCT: 4, ENUM: 6, TYPEDEF: 8, VAR: 14, DATASEC: 15, ENUM64: 19 } as const;
/** Bytes that follow a type's header, per element, by kind (Documentation/bpf/btf.rst). */
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

/**
 * Reads a compiled eBPF object without libbpf: its program functions and the maps that its BTF declares in `.maps`. Global data
 * sections, which libbpf turns into maps of its own, are not listed.
 *
 * @throws AgentError OBJECT_INVALID
 */
export function readObjectFile(bytes: Buffer): ObjectFile {
  try {
    const sections = readSections(bytes);
    return { programs: readPrograms(sections), maps: readMaps(sections) };
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw new AgentError('OBJECT_INVALID', 'The object file is cut short or damaged', { cause });
  }
}

function readSections(bytes: Buffer): Section[] {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46) {
    throw new AgentError('OBJECT_INVALID', 'The object file is not an ELF file');
  }
  if (bytes[4] !== 2 || bytes[5] !== 1 || bytes.readUInt16LE(18) !== EM_BPF) {
    throw new AgentError('OBJECT_INVALID', 'The object file is not a 64-bit little-endian eBPF object');
  }
  const table = Number(bytes.readBigUInt64LE(40));
  const [entrySize, count, namesIndex] = [bytes.readUInt16LE(58), bytes.readUInt16LE(60), bytes.readUInt16LE(62)];
  const headers = Array.from({ length: count }, (_, index) => bytes.subarray(table + index * entrySize));
  const dataOf = (header: Buffer) => {
    const offset = Number(header.readBigUInt64LE(24));
    const noBits = header.readUInt32LE(4) === 8;
    return bytes.subarray(offset, noBits ? offset : offset + Number(header.readBigUInt64LE(32)));
  };
  const names = dataOf(headers[namesIndex]!);
  return headers.map((header, index) => ({
    index,
    name: cString(names, header.readUInt32LE(0)),
    type: header.readUInt32LE(4),
    flags: Number(header.readBigUInt64LE(8)),
    link: header.readUInt32LE(40),
    data: dataOf(header),
  }));
}

/** Functions in executable sections other than `.text`, which holds subprograms. */
function readPrograms(sections: readonly Section[]): string[] {
  const code = new Set(
    sections.filter(({ flags, name }) => (flags & SHF_EXECINSTR) !== 0 && name !== '.text').map(({ index }) => index),
  );
  const symbols = sections.find(({ type }) => type === SHT_SYMTAB);
  if (symbols === undefined) return [];
  const names = sections[symbols.link]!.data;
  const programs: string[] = [];
  for (let at = 0; at + 24 <= symbols.data.length; at += 24) {
    const isFunction = (symbols.data[at + 4]! & 0xf) === STT_FUNC;
    if (isFunction && code.has(symbols.data.readUInt16LE(at + 6))) {
      programs.push(cString(names, symbols.data.readUInt32LE(at)));
    }
  }
  return programs;
}

function readMaps(sections: readonly Section[]): DeclaredMap[] {
  if (!sections.some(({ name }) => name === '.maps')) return [];
  const btf = sections.find(({ name }) => name === '.BTF');
  if (btf === undefined)
    throw new AgentError('OBJECT_INVALID', 'The object file declares maps but has no BTF; compile with -g');
  const types = readBtf(btf.data);
  const datasec = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (datasec?.members ?? []).map(({ type }) => {
    const variable = types[type]!;
    return declaredMap(variable.name, types[skipTypedefs(types, variable.size)]!, types);
  });
}

/** A map definition is a struct whose members are pointers: `type (*key)` gives a type, `int (*type)[N]` a number. */
function declaredMap(name: string, definition: BtfType, types: readonly BtfType[]): DeclaredMap {
  const pointee = (member: string) => {
    const found = definition.members.find((other) => other.name === member);
    return found === undefined ? undefined : types[skipTypedefs(types, found.type)]!.size;
  };
  const number = (member: string) => {
    const target = pointee(member);
    return target === undefined ? undefined : types[target]!.array?.length;
  };
  const sizeOfType = (member: string) => {
    const target = pointee(member);
    return target === undefined ? undefined : sizeOf(types, target);
  };
  return {
    name,
    type: number('type') ?? 0,
    keySize: number('key_size') ?? sizeOfType('key') ?? 0,
    valueSize: number('value_size') ?? sizeOfType('value') ?? 0,
    maxEntries: number('max_entries') ?? 0,
  };
}

function readBtf(data: Buffer): BtfType[] {
  const headerLength = data.readUInt32LE(4);
  const [typeOffset, typeLength, stringOffset] = [data.readUInt32LE(8), data.readUInt32LE(12), data.readUInt32LE(16)];
  const strings = data.subarray(headerLength + stringOffset);
  const end = headerLength + typeOffset + typeLength;
  const types: BtfType[] = [{ name: 'void', kind: 0, size: 0, members: [], array: undefined }];
  for (let at = headerLength + typeOffset; at < end; ) {
    const info = data.readUInt32LE(at + 4);
    const [kind, count] = [(info >>> 24) & 0x1f, info & 0xffff];
    const body = at + 12;
    const trailer = TRAILER[kind] ?? {};
    types.push({
      name: cString(strings, data.readUInt32LE(at)),
      kind,
      size: data.readUInt32LE(at + 8),
      members:
        kind === KIND.STRUCT
          ? Array.from({ length: count }, (_, n) => ({
              name: cString(strings, data.readUInt32LE(body + n * 12)),
              type: data.readUInt32LE(body + n * 12 + 4),
            }))
          : kind === KIND.DATASEC
            ? Array.from({ length: count }, (_, n) => ({ name: '', type: data.readUInt32LE(body + n * 12) }))
            : [],
      array: kind === KIND.ARRAY ? { type: data.readUInt32LE(body), length: data.readUInt32LE(body + 8) } : undefined,
    });
    at = body + (trailer.fixed ?? 0) + (trailer.each ?? 0) * count;
  }
  return types;
}

/** Kinds that only rename or qualify another type: typedef, volatile, const, restrict, type tag. */
const WRAPPERS: ReadonlySet<number> = new Set([8, 9, 10, 11, 18]);

function skipTypedefs(types: readonly BtfType[], id: number): number {
  let current = id;
  while (WRAPPERS.has(types[current]!.kind)) current = types[current]!.size;
  return current;
}

function sizeOf(types: readonly BtfType[], id: number): number {
  const type = types[skipTypedefs(types, id)]!;
  if (type.kind === KIND.PTR) return 8;
  if (type.array !== undefined) return type.array.length * sizeOf(types, type.array.type);
  return type.size;
}

function cString(data: Buffer, offset: number): string {
  return data.toString('latin1', offset, data.indexOf(0, offset));
}
