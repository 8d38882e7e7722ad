import { readFile } from 'node:fs/promises';
import type { MapShape } from '../domain/mapvalue.js';
import { AgentError } from '../errors.js';
import { type BtfType, cString, KIND, readBtf, sizeOf, unwrap } from './btf.js';
import { layoutsIn } from './btf-layout.js';

/** What an object file declares, as far as loading it needs to know. */
export interface ObjectFile {
  /** Names of the program functions. */
  readonly programs: readonly string[];
  /** Of each of these, the name of the section that it is in. */
  readonly sections: ReadonlyMap<string, string>;
  /** Of each of these, the names of the maps that its code refers to. */
  readonly uses: ReadonlyMap<string, ReadonlySet<string>>;
  readonly maps: readonly MapShape[];
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly index: number;
  readonly link: number;
  readonly info: number;
  readonly data: Buffer;
}

const EM_BPF = 247;
const SHT_SYMTAB = 2;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;

/** An object file on disk. @throws AgentError OBJECT_INVALID */
export async function openObjectFile(path: string): Promise<ObjectFile> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new AgentError('OBJECT_INVALID', `Cannot read the object file ${path}`, { cause });
  }
  return readObjectFile(bytes);
}

/**
 * Reads a compiled eBPF object without libbpf: its program functions and the maps that its BTF declares in `.maps`. Global data
 * sections, which libbpf turns into maps of its own, are not listed.
 *
 * @throws AgentError OBJECT_INVALID
 */
function readObjectFile(bytes: Buffer): ObjectFile {
  try {
    const sections = readSections(bytes);
    const programs = readPrograms(sections);
    return {
      programs: programs.map(({ name }) => name),
      sections: new Map(programs.map(({ name, section }) => [name, section.name])),
      uses: readUses(sections, programs),
      maps: readMaps(sections),
    };
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw new AgentError('OBJECT_INVALID', 'The object file is cut short or damaged', { cause });
  }
}

/** `BPF_MAP_TYPE_PROG_ARRAY` of include/uapi/linux/bpf.h. */
export const PROG_ARRAY = 3;

/**
 * The slot of a program that an object has to have.
 *
 * @param slotMap '' for a program without slot
 * @throws AgentError ENTRY_FUNCTION_NOT_FOUND, SLOT_INVALID
 */
export function slotOf({ programs, maps }: ObjectFile, entryFunction: string, slotMap: string): MapShape | undefined {
  if (!programs.includes(entryFunction)) {
    const there = programs.join(', ') || 'none';
    throw new AgentError('ENTRY_FUNCTION_NOT_FOUND', `The object has no function ${entryFunction}; it has ${there}`);
  }
  const slot = maps.find(({ name }) => name === slotMap);
  if (slotMap !== '' && (slot?.type !== PROG_ARRAY || slot.maxEntries !== 1)) {
    throw new AgentError('SLOT_INVALID', `${slotMap} is not a PROG_ARRAY with one entry in this object`);
  }
  return slot;
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
    info: header.readUInt32LE(44),
    data: dataOf(header),
  }));
}

interface ElfSymbol {
  readonly name: string;
  readonly isFunction: boolean;
  readonly sectionIndex: number;
  /** From the beginning of the section, in bytes. */
  readonly start: number;
  readonly size: number;
}

function readSymbols(sections: readonly Section[]): ElfSymbol[] {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  if (table === undefined) return [];
  const names = sections[table.link]!.data;
  return Array.from({ length: Math.floor(table.data.length / 24) }, (_, index) => {
    const symbol = table.data.subarray(index * 24);
    return {
      name: cString(names, symbol.readUInt32LE(0)),
      isFunction: (symbol[4]! & 0xf) === STT_FUNC,
      sectionIndex: symbol.readUInt16LE(6),
      start: Number(symbol.readBigUInt64LE(8)),
      size: Number(symbol.readBigUInt64LE(16)),
    };
  });
}

interface ProgramCode extends ElfSymbol {
  readonly section: Section;
}

/** Functions in executable sections other than `.text`, which holds subprograms. */
function readPrograms(sections: readonly Section[]): ProgramCode[] {
  return readSymbols(sections).flatMap((symbol) => {
    const section = sections[symbol.sectionIndex];
    const isCode = section !== undefined && (section.flags & SHF_EXECINSTR) !== 0 && section.name !== '.text';
    return symbol.isFunction && isCode ? [{ ...symbol, section }] : [];
  });
}

/** Code names a map by a relocation against its symbol. What subprograms name counts for all, since any may call them. */
function readUses(sections: readonly Section[], programs: readonly ProgramCode[]): Map<string, Set<string>> {
  const symbols = readSymbols(sections);
  const named = sections
    .filter(({ type }) => type === SHT_REL)
    .flatMap(({ info, data }) =>
      Array.from({ length: Math.floor(data.length / 16) }, (_, index) => ({
        section: sections[info],
        at: Number(data.readBigUInt64LE(index * 16)),
        symbol: symbols[data.readUInt32LE(index * 16 + 12)],
      })),
    )
    .filter(({ symbol }) => symbol !== undefined && sections[symbol.sectionIndex]?.name === '.maps');
  return new Map(
    programs.map(({ name, section: own, start, size }) => {
      const inside = named.filter(
        ({ section, at }) => section?.name === '.text' || (section === own && at >= start && at < start + size),
      );
      return [name, new Set(inside.map(({ symbol }) => symbol!.name))];
    }),
  );
}

function readMaps(sections: readonly Section[]): MapShape[] {
  if (!sections.some(({ name }) => name === '.maps')) return [];
  const btf = sections.find(({ name }) => name === '.BTF');
  if (btf === undefined)
    throw new AgentError('OBJECT_INVALID', 'The object file declares maps but has no BTF; compile with -g');
  const types = readBtf(btf.data);
  const datasec = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (datasec?.members ?? []).map(({ type }) => {
    const variable = types[type]!;
    return declaredMap(variable.name, types[unwrap(types, variable.size).id]!, types);
  });
}

/** A map definition is a struct whose members are pointers: `type (*key)` gives a type, `int (*type)[N]` a number. */
function declaredMap(name: string, definition: BtfType, types: readonly BtfType[]): MapShape {
  const pointee = (member: string) => {
    const found = definition.members.find((other) => other.name === member);
    return found === undefined ? undefined : types[unwrap(types, found.type).id]!.size;
  };
  const number = (member: string) => {
    const target = pointee(member);
    return target === undefined ? undefined : types[target]!.array?.length;
  };
  const [keyType, valueType] = [pointee('key') ?? 0, pointee('value') ?? 0];
  return {
    name,
    type: number('type') ?? 0,
    keySize: number('key_size') ?? sizeOf(types, keyType),
    valueSize: number('value_size') ?? sizeOf(types, valueType),
    maxEntries: number('max_entries') ?? 0,
    ...layoutsIn(types, keyType, valueType),
  };
}
