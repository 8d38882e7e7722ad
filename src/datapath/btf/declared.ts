import type { MapInfo } from '../../domain/observed.js';
import { mapSegment } from '../../domain/pins.js';
import { type BtfType, KIND, typeAt, unwrap } from './btf.js';
import { layoutsIn, orUndefined } from './layout.js';

/*
 * Maps as an object's BTF declares them: in the section `.maps`, and in the sections of global variables. It says more
 * than the BTF of a map in the kernel. libbpf creates maps without BTF whose types the kernel would not take it for
 * (bpf_object__create_map in its libbpf.c): DEVMAP, CPUMAP and others, and any map that the kernel only takes without,
 * as an array whose keys are structs.
 */

/** A map of the section `.maps`. Its types are ids; 0 for none. */
export interface Declaration {
  readonly name: string;
  readonly keyType: number;
  readonly valueType: number;
  /** A number by the name of its member (`max_entries`); undefined if it is not declared. */
  number(member: string): number | undefined;
}

/** @throws RangeError for damaged types */
export function declarationsIn(types: readonly BtfType[]): readonly Declaration[] {
  const section = types.find(({ kind, name }) => kind === KIND.DATASEC && name === '.maps');
  return (section?.members ?? []).map(({ type }) => {
    const variable = typeAt(types, type);
    return declarationOf(variable.name, typeAt(types, unwrap(types, variable.size).id), types);
  });
}

/** A map definition is a struct of pointers: `type (*key)` stands for a type, `int (*type)[N]` for a number. */
function declarationOf(name: string, definition: BtfType, types: readonly BtfType[]): Declaration {
  const pointee = (member: string) => {
    const found = definition.members.find((other) => other.name === member);
    return found === undefined ? undefined : typeAt(types, unwrap(types, found.type).id).size;
  };
  return {
    name,
    keyType: pointee('key') ?? 0,
    valueType: pointee('value') ?? 0,
    number: (member) => {
      const target = pointee(member);
      return target === undefined ? undefined : typeAt(types, target).array?.length;
    },
  };
}

/**
 * The layouts of a declared map, or of the map that libbpf makes of a section of global variables.
 *
 * @param segment the map's name in a pin path
 */
export function declaredLayouts(types: readonly BtfType[], segment: string): Pick<MapInfo, 'key' | 'value'> {
  const map = orUndefined(() => declarationsIn(types))?.find(({ name }) => mapSegment(name) === segment);
  if (map !== undefined) return layoutsIn(types, map.keyType, map.valueType);
  // libbpf puts the beginning of the object's name before that of the section.
  const isSection = ({ kind, name }: BtfType) =>
    kind === KIND.DATASEC && name.startsWith('.') && name !== '.maps' && segment.endsWith(mapSegment(name));
  const section = types.findIndex(isSection);
  return section === -1 ? {} : layoutsIn(types, 0, section);
}
