import { readFile } from 'node:fs/promises';
import { type MapShape, PROG_ARRAY } from '../domain/mapvalue.js';
import { AgentError } from '../errors.js';
import { checkSections, damaged, readSections, type Section } from './bpf-elf.js';
import { type BtfType, cString, KIND, readBtf, sizeOf, typeAt, unwrap } from './btf.js';
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
  /** Names of those that ask to be pinned by their name (LIBBPF_PIN_BY_NAME). */
  readonly pinnedByName: ReadonlySet<string>;
}

const SHT_SYMTAB = 2;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;
/** enum libbpf_pin_type in bpf_helpers.h. */
const LIBBPF_PIN_BY_NAME = 1;

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
export function readObjectFile(bytes: Buffer): ObjectFile {
  try {
    const sections = readSections(bytes);
    checkSections(sections);
    const programs = readPrograms(sections);
    const maps = readMaps(sections);
    return {
      programs: programs.map(({ name }) => name),
      sections: new Map(programs.map(({ name, section }) => [name, section.name])),
      uses: readUses(sections, programs),
      maps: maps.map(({ shape }) => shape),
      pinnedByName: new Set(maps.flatMap(({ shape, isPinned }) => (isPinned ? [shape.name] : []))),
    };
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw damaged(cause);
  }
}

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
  const names = sections[table.link]?.data;
  if (names === undefined) throw new RangeError('the symbols have no names');
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

interface DeclaredMap {
  readonly shape: MapShape;
  readonly isPinned: boolean;
}

function readMaps(sections: readonly Section[]): DeclaredMap[] {
  const btf = sections.find(({ name }) => name === '.BTF');
  if (btf === undefined) return [];
  const types = readBtf(btf.data);
  const datasec = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (datasec?.members ?? []).map(({ type }) => {
    const variable = typeAt(types, type);
    return declaredMap(variable.name, typeAt(types, unwrap(types, variable.size).id), types);
  });
}

/** A map definition is a struct whose members are pointers: `type (*key)` gives a type, `int (*type)[N]` a number. */
function declaredMap(name: string, definition: BtfType, types: readonly BtfType[]): DeclaredMap {
  const pointee = (member: string) => {
    const found = definition.members.find((other) => other.name === member);
    return found === undefined ? undefined : typeAt(types, unwrap(types, found.type).id).size;
  };
  const number = (member: string) => {
    const target = pointee(member);
    return target === undefined ? undefined : typeAt(types, target).array?.length;
  };
  const [keyType, valueType] = [pointee('key') ?? 0, pointee('value') ?? 0];
  const shape = {
    name,
    type: number('type') ?? 0,
    keySize: number('key_size') ?? sizeOf(types, keyType),
    valueSize: number('value_size') ?? sizeOf(types, valueType),
    maxEntries: number('max_entries') ?? 0,
    ...layoutsIn(types, keyType, valueType),
  };
  return { shape, isPinned: number('pinning') === LIBBPF_PIN_BY_NAME };
}
