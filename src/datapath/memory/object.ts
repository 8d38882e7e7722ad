import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { PROG_ARRAY } from '../../domain/map-types.js';
import type { MapShape } from '../../domain/mapvalue.js';
import { AgentError } from '../../errors.js';
import { type BtfType, cString, KIND, readBtf, sizeOf, typeAt } from '../btf/btf.js';
import { declarationsIn } from '../btf/declared.js';
import { layoutsIn } from '../btf/layout.js';
import { checkSections, damaged, readSections } from '../elf/bpf-elf.js';
import { RELOCATION, SYMBOL, symbolType } from '../elf/elf.js';
import { type Section, tailCallTargets } from '../elf/tail-calls.js';

/** The declarations of an object file that are needed for loading. */
export interface MemoryObject {
  /** Names of the program functions. */
  readonly programs: readonly string[];
  /** Function name to the name of its section. */
  readonly sections: ReadonlyMap<string, string>;
  /** Function name to the names of the maps that its code refers to. */
  readonly uses: ReadonlyMap<string, ReadonlySet<string>>;
  readonly maps: readonly MapShape[];
  readonly globals: readonly GlobalData[];
  /** Names of the maps that ask to be pinned by their name (LIBBPF_PIN_BY_NAME). */
  readonly pinnedByName: ReadonlySet<string>;
  /** The functions that the object itself puts into its maps of type PROG_ARRAY. */
  readonly tailCalled: ReadonlySet<string>;
}

/** `enum bpf_map_type`. */
const ARRAY = 2;
const SHT_SYMTAB = 2;
const SHT_REL = 9;
const SHF_EXECINSTR = 4;
const STT_FUNC = 2;
/** enum libbpf_pin_type in bpf_helpers.h. */
const LIBBPF_PIN_BY_NAME = 1;

/** An object file on disk. @throws AgentError OBJECT_INVALID */
export async function openObjectFile(path: string): Promise<MemoryObject> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new AgentError('OBJECT_INVALID', `Cannot read the object file ${path}`, { cause });
  }
  return readObjectFile(bytes, basename(path));
}

/**
 * Reads a compiled eBPF object without libbpf: its program functions, the maps that its BTF declares in `.maps`, and
 * those that libbpf makes of its global variables.
 *
 * @param fileName of the object, by which the maps of global variables are named
 * @throws AgentError OBJECT_INVALID
 */
export function readObjectFile(bytes: Buffer, fileName = 'object'): MemoryObject {
  try {
    const sections = readSections(bytes);
    checkSections(sections);
    const programs = readPrograms(sections);
    const btf = sections.find(({ name }) => name === '.BTF');
    const types = btf === undefined ? [] : readBtf(btf.data);
    const maps = declaredMaps(types);
    return {
      programs: programs.map(({ name }) => name),
      sections: new Map(programs.map(({ name, section }) => [name, section.name])),
      uses: readUses(sections, programs),
      maps: maps.map(({ shape }) => shape),
      globals: globalData(sections, types, fileName),
      pinnedByName: new Set(maps.flatMap(({ shape, isPinned }) => (isPinned ? [shape.name] : []))),
      tailCalled: new Set([...tailCallTargets(sections).values()].flatMap((functions) => [...functions])),
    };
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw damaged(cause);
  }
}

/**
 * Checks that an object has a program, and its slot.
 *
 * @param slotMap '' for a program without slot
 * @throws AgentError ENTRY_FUNCTION_NOT_FOUND, SLOT_INVALID
 */
export function slotOf({ programs, maps }: MemoryObject, entryFunction: string, slotMap: string): MapShape | undefined {
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
  /** From the start of the section, in bytes. */
  readonly start: number;
  readonly size: number;
}

function readSymbols(sections: readonly Section[]): ElfSymbol[] {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  if (table === undefined) return [];
  const names = sections[table.link]?.data;
  if (names === undefined) throw new RangeError('the symbols have no names');
  const { data } = table;
  return Array.from({ length: Math.floor(data.length / SYMBOL.size) }, (_, index) => {
    const at = index * SYMBOL.size;
    return {
      name: cString(names, SYMBOL.read(data, 'st_name', at)),
      isFunction: symbolType(data, at) === STT_FUNC,
      sectionIndex: SYMBOL.read(data, 'st_shndx', at),
      start: SYMBOL.read(data, 'st_value', at),
      size: SYMBOL.read(data, 'st_size', at),
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

/**
 * Code refers to a map by a relocation against its symbol. Maps of subprograms count for all functions, since any may
 * call them.
 */
function readUses(sections: readonly Section[], programs: readonly ProgramCode[]): Map<string, Set<string>> {
  const symbols = readSymbols(sections);
  const named = sections
    .filter(({ type }) => type === SHT_REL)
    .flatMap(({ info, data }) =>
      Array.from({ length: Math.floor(data.length / RELOCATION.size) }, (_, index) => ({
        section: sections[info],
        at: RELOCATION.read(data, 'r_offset', index * RELOCATION.size),
        symbol: symbols[RELOCATION.read(data, 'symbol', index * RELOCATION.size)],
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

function declaredMaps(types: readonly BtfType[]): DeclaredMap[] {
  return declarationsIn(types).map(({ name, keyType, valueType, number }) => {
    const shape = {
      name,
      type: number('type') ?? 0,
      keySize: number('key_size') ?? sizeOf(types, keyType),
      valueSize: number('value_size') ?? sizeOf(types, valueType),
      maxEntries: number('max_entries') ?? 0,
      ...layoutsIn(types, keyType, valueType),
      ...accessOf(number('map_flags') ?? 0),
    };
    return { shape, isPinned: number('pinning') === LIBBPF_PIN_BY_NAME };
  });
}

const BPF_F_RDONLY = 1 << 3;
const BPF_F_WRONLY = 1 << 4;

function accessOf(flags: number): Pick<MapShape, 'access'> {
  if ((flags & BPF_F_RDONLY) !== 0) return { access: 'read' };
  return (flags & BPF_F_WRONLY) !== 0 ? { access: 'write' } : {};
}

/** A map of global variables, and the bytes that it begins with. */
export interface GlobalData {
  readonly shape: MapShape;
  readonly initial: Buffer;
}

const GLOBAL_DATA = /^\.(rodata|data|bss)(\..*)?$/;

/** The maps that libbpf makes of the sections with global variables (bpf_object__init_global_data_maps in its libbpf.c). */
function globalData(sections: readonly Section[], types: readonly BtfType[], fileName: string): GlobalData[] {
  const symbols = readSymbols(sections);
  return sections
    .filter(({ name, size }) => GLOBAL_DATA.test(name) && size > 0)
    .map(({ name, size, index, data }) => {
      const shape = { name: dataMapName(fileName, name), type: ARRAY, keySize: 4, valueSize: size, maxEntries: 1 };
      const section = types.findIndex((type) => type.kind === KIND.DATASEC && type.name === name);
      const initial = data.length === 0 ? Buffer.alloc(size) : Buffer.from(data);
      if (section === -1) return { shape, initial };
      // Compilers leave size and offsets to the linker, which is libbpf (btf_fixup_datasec in its libbpf.c).
      const places = new Map(
        symbols.filter(({ sectionIndex }) => sectionIndex === index).map((symbol) => [symbol.name, symbol.start]),
      );
      const placed = types.with(section, {
        ...types[section]!,
        size,
        members: types[section]!.members.map((member) => {
          return { ...member, offset: places.get(typeAt(types, member.type).name) ?? member.offset };
        }),
      });
      return { shape: { ...shape, ...layoutsIn(placed, 0, section) }, initial };
    });
}

/** As libbpf names them: `internal_map_name` in its libbpf.c. */
function dataMapName(fileName: string, section: string): string {
  if (section.indexOf('.', 1) !== -1) return section;
  const object = fileName.split('.', 1)[0] ?? '';
  const room = 15 - Math.max('.rodata'.length, section.length);
  return `${object.slice(0, room)}${section}`.replace(/[^A-Za-z0-9_.]/g, '_');
}
