import type { Field, Layout, StructLayout } from '../../domain/layout.js';
import type { MapInfo } from '../../domain/observed.js';
import { type BtfMember, type BtfType, DEEPEST, KIND, sizeOf, typeAt, unwrap } from './btf.js';

/** Flags of an integer's encoding (Documentation/bpf/btf.rst, BTF_KIND_INT). */
const INT_SIGNED = 1;
const INT_BOOL = 4;

/** Integers in network byte order: `__be32` of include/uapi/linux/types.h, and similar names. */
const NETWORK_ORDER = /^_*be(16|32|64)(_t)?$/;

/** Fields that only the kernel writes (kernel/bpf/btf.c, field_types): user space reads and writes zeros there. */
const KERNEL_FIELDS: ReadonlySet<string> = new Set([
  'bpf_spin_lock',
  'bpf_res_spin_lock',
  'bpf_timer',
  'bpf_wq',
  'bpf_task_work',
  'bpf_list_head',
  'bpf_list_node',
  'bpf_rb_root',
  'bpf_rb_node',
  'bpf_refcount',
]);

/** Kinds of which only the size is known, in words. */
const OPAQUE: Readonly<Record<number, string>> = {
  [KIND.PTR]: 'a pointer',
  7: 'a type that is only declared',
  16: 'a floating point number',
};

/** Including the fields of unnamed structs in it: nested ones could multiply them without limit. */
const MOST_FIELDS = 65_535;

/** The layouts known so far, and the depth within the requested type. */
interface LayoutProgress {
  readonly known: Map<number, Layout>;
  readonly depth: number;
}

/**
 * The layout of a type, for encoding a value of it.
 *
 * @param id of the type; 0, which is `void`, if the map declares none
 * @returns undefined for a type without values: void
 * @throws RangeError for types that contain themselves or that do not exist; the kernel accepts neither
 */
export function layoutOf(types: readonly BtfType[], id: number): Layout | undefined {
  const { kind } = typeAt(types, unwrap(types, id).id);
  return kind === 0 ? undefined : layout(types, id, { known: new Map(), depth: 0 });
}

/**
 * The layouts of a map's key and value, as far as they are described. Empty if the types are damaged, since the map may
 * load without them.
 */
export function layoutsIn(
  types: readonly BtfType[],
  keyType: number,
  valueType: number,
): Pick<MapInfo, 'key' | 'value'> {
  const of = (id: number) => orUndefined(() => layoutOf(types, id));
  const [key, value] = [of(keyType), of(valueType)];
  return { ...(key !== undefined && { key }), ...(value !== undefined && { value }) };
}

/** The result of `make`; undefined if the type information is damaged. */
export function orUndefined<Made>(make: () => Made): Made | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function layout(types: readonly BtfType[], wrapped: number, { known, depth }: LayoutProgress): Layout {
  const found = known.get(wrapped);
  if (found !== undefined) return found;
  if (depth > DEEPEST) throw new RangeError('A type contains itself, or is nested more deeply than the kernel allows');
  const { id, names } = unwrap(types, wrapped);
  const made = describe(types, id, names, { known, depth: depth + 1 });
  known.set(wrapped, made);
  return made;
}

function describe(types: readonly BtfType[], id: number, names: readonly string[], progress: LayoutProgress): Layout {
  const type = typeAt(types, id);
  const network = names.some((name) => NETWORK_ORDER.test(name));
  const { size } = type;
  switch (type.kind) {
    case KIND.INT: {
      const encoding = (type.int >>> 24) & 0xf;
      return { kind: 'int', size, signed: (encoding & INT_SIGNED) !== 0, bool: (encoding & INT_BOOL) !== 0, network };
    }
    case KIND.ENUM:
    case KIND.ENUM64:
      return { kind: 'enum', size, signed: type.flag, network, values: type.values };
    case KIND.ARRAY: {
      const { type: inner, length } = type.array!;
      const element = layout(types, inner, progress);
      const text = typeAt(types, unwrap(types, inner).id).name === 'char';
      return { kind: 'array', size: length * element.size, length, element, text };
    }
    case KIND.UNION:
      return { kind: 'union', size, name: nameOf('union', type), fields: fieldsOf(types, type, progress) };
    case KIND.DATASEC:
      return sectionLayout(types, type, progress);
    case KIND.STRUCT:
      if (KERNEL_FIELDS.has(type.name)) return { kind: 'opaque', size, what: `struct ${type.name}`, kernel: true };
      return { kind: 'struct', size, name: nameOf('struct', type), fields: fieldsOf(types, type, progress) };
    default:
      return { kind: 'opaque', size: sizeOf(types, id), what: OPAQUE[type.kind] ?? 'no plain value', kernel: false };
  }
}

function nameOf(kind: 'struct' | 'union', { name }: BtfType): string {
  return name === '' ? `a ${kind}` : `${kind} ${name}`;
}

/** The fields of nameless structs within a struct count as its own. Within a union they belong together. */
function fieldsOf(types: readonly BtfType[], type: BtfType, progress: LayoutProgress): Field[] {
  let count = 0;
  return type.members.flatMap((member): Field[] => {
    const inner = layout(types, member.type, progress);
    const { bitOffset, bits } = placeOf(types, type, member);
    count += inner.kind === 'struct' || inner.kind === 'union' ? inner.fields.length : 1;
    if (count > MOST_FIELDS) throw new RangeError(`A struct has more than ${MOST_FIELDS} fields`);
    if (member.name === '' && inner.kind === 'struct' && type.kind === KIND.STRUCT) {
      return inner.fields.map((field) => ({ ...field, bitOffset: bitOffset + field.bitOffset }));
    }
    return [{ name: member.name, bitOffset, layout: inner, ...(bits !== undefined && { bits }) }];
  });
}

/** A section of global variables, which libbpf makes a map of with one entry. Its offsets are in bytes. */
function sectionLayout(
  types: readonly BtfType[],
  { name, size, members }: BtfType,
  progress: LayoutProgress,
): StructLayout {
  const fields = members.map(({ type, offset }): Field => {
    const variable = typeAt(types, type);
    return { name: variable.name, bitOffset: offset * 8, layout: layout(types, variable.size, progress) };
  });
  return { kind: 'struct', size, name: `the section ${name}`, fields, section: name };
}

/** Older compilers described a bit-field by an integer type that is narrower than its bytes. */
function placeOf(
  types: readonly BtfType[],
  { flag }: BtfType,
  member: BtfMember,
): { bitOffset: number; bits?: number } {
  if (flag) {
    const [bitOffset, bits] = [member.offset & 0xffffff, member.offset >>> 24];
    return bits === 0 ? { bitOffset } : { bitOffset, bits };
  }
  const { kind, int, size } = typeAt(types, unwrap(types, member.type).id);
  const bits = int & 0xff;
  const isWhole = kind !== KIND.INT || bits === size * 8;
  return isWhole ? { bitOffset: member.offset } : { bitOffset: member.offset + ((int >>> 16) & 0xff), bits };
}
