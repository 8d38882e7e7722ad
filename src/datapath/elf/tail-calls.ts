import { cString } from '../btf/btf.js';
import { RELOCATION, SYMBOL, symbolType } from './elf.js';

/** A section of a compiled eBPF object. */
export interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly index: number;
  readonly link: number;
  readonly info: number;
  /** In bytes, also of a section without data in the file (`.bss`). */
  readonly size: number;
  readonly data: Buffer;
}

const SHT_SYMTAB = 2;
const SHT_REL = 9;
const [STT_OBJECT, STT_FUNC] = [1, 2];

/**
 * The functions that an object itself puts into its maps of type PROG_ARRAY: the initial `.values` of a declaration in
 * the section `.maps`. libbpf fills such maps when it loads the object (init_prog_array_slots in its libbpf.c), so the
 * functions must be loaded too.
 *
 * @returns names of functions by name of their map; empty for an object without any
 * @throws RangeError for a damaged object
 */
export function tailCallTargets(sections: readonly Section[]): ReadonlyMap<string, ReadonlySet<string>> {
  const targets = new Map<string, Set<string>>();
  const maps = sections.find(({ name }) => name === '.maps');
  if (maps === undefined) return targets;
  for (const { data, link } of sections.filter(({ type, info }) => type === SHT_REL && info === maps.index)) {
    const symbols = symbolsOf(sections, link);
    for (let at = 0; at + RELOCATION.size <= data.length; at += RELOCATION.size) {
      const target = symbols[RELOCATION.read(data, 'symbol', at)];
      if (target?.type !== STT_FUNC) continue;
      const offset = RELOCATION.read(data, 'r_offset', at);
      const map = symbols.find(
        (symbol) => symbol.type === STT_OBJECT && symbol.section === maps.index && has(symbol, offset),
      );
      if (map !== undefined) targets.set(map.name, (targets.get(map.name) ?? new Set()).add(target.name));
    }
  }
  return targets;
}

interface ObjectSymbol {
  readonly name: string;
  readonly type: number;
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

function has({ value, size }: ObjectSymbol, offset: number): boolean {
  return offset >= value && offset < value + size;
}

function symbolsOf(sections: readonly Section[], index: number): ObjectSymbol[] {
  const table = sections[index];
  const names = table === undefined ? undefined : sections[table.link];
  if (table?.type !== SHT_SYMTAB || names === undefined) throw new RangeError('its relocations have no symbols');
  return Array.from({ length: Math.floor(table.data.length / SYMBOL.size) }, (_, number) => {
    const at = number * SYMBOL.size;
    return {
      name: cString(names.data, SYMBOL.read(table.data, 'st_name', at)),
      type: symbolType(table.data, at),
      section: SYMBOL.read(table.data, 'st_shndx', at),
      value: SYMBOL.read(table.data, 'st_value', at),
      size: SYMBOL.read(table.data, 'st_size', at),
    };
  });
}
