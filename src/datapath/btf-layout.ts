import type { Field, Layout, StructLayout } from '../domain/layout.js';
import type { MapInfo } from '../domain/observed.js';
import { type BtfMember, type BtfType, KIND, sizeOf, unwrap } from './btf.js';

/** Flags of an integer's encoding (Documentation/bpf/btf.rst, BTF_KIND_INT). */
const INT_SIGNED = 1;
const INT_BOOL = 4;

/** Integers in network order: `__be32` of include/uapi/linux/types.h, and what others call the same. */
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

/** Kinds of which nothing can be told but their size, in words. */
const OPAQUE: Readonly<Record<number, string>> = {
  [KIND.PTR]: 'a pointer',
  [KIND.UNION]: 'a union',
  7: 'a type that is only declared',
  16: 'a floating point number',
};

/**
 * What a type means for whoever writes a value of it.
 *
 * @param id of the type; 0, which is `void`, for a map that tells of none
 * @returns undefined for what is no type of a value: nothing, a section of global data
 * @throws RangeError for types that contain themselves, which the kernel would not have loaded
 */
export function layoutOf(types: readonly BtfType[], id: number): Layout | undefined {
  const known = new Map<number, Layout>();
  const { kind } = types[unwrap(types, id).id]!;
  return kind === 0 || kind === KIND.DATASEC ? undefined : layout(types, id, known);
}

/** What a map's key and value mean, as far as the types tell. @throws RangeError as {@link layoutOf} */
export function layoutsIn(
  types: readonly BtfType[],
  keyType: number,
  valueType: number,
): Pick<MapInfo, 'key' | 'value'> {
  const of = (id: number) => (types[id] === undefined ? undefined : layoutOf(types, id));
  const [key, value] = [of(keyType), of(valueType)];
  return { ...(key !== undefined && { key }), ...(value !== undefined && { value }) };
}

function layout(types: readonly BtfType[], wrapped: number, known: Map<number, Layout>): Layout {
  const found = known.get(wrapped);
  if (found !== undefined) return found;
  const { id, names } = unwrap(types, wrapped);
  const made = describe(types, id, names, known);
  known.set(wrapped, made);
  return made;
}

function describe(types: readonly BtfType[], id: number, names: readonly string[], known: Map<number, Layout>): Layout {
  const type = types[id]!;
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
      const element = layout(types, inner, known);
      const text = types[unwrap(types, inner).id]!.name === 'char';
      return { kind: 'array', size: length * element.size, length, element, text };
    }
    case KIND.STRUCT:
      if (KERNEL_FIELDS.has(type.name)) return { kind: 'opaque', size, what: `struct ${type.name}`, kernel: true };
      return struct(types, type, known);
    default:
      return { kind: 'opaque', size: sizeOf(types, id), what: OPAQUE[type.kind] ?? 'no plain value', kernel: false };
  }
}

function struct(types: readonly BtfType[], type: BtfType, known: Map<number, Layout>): StructLayout {
  const fields = type.members.flatMap((member): Field[] => {
    const inner = layout(types, member.type, known);
    const { bitOffset, bits } = placeOf(types, type, member);
    if (member.name === '' && inner.kind === 'struct') {
      return inner.fields.map((field) => ({ ...field, bitOffset: bitOffset + field.bitOffset }));
    }
    return [{ name: member.name, bitOffset, layout: inner, ...(bits !== undefined && { bits }) }];
  });
  return { kind: 'struct', size: type.size, name: type.name === '' ? 'a struct' : `struct ${type.name}`, fields };
}

/** Older compilers told a bit-field by an integer type that is narrower than its bytes. */
function placeOf(
  types: readonly BtfType[],
  { flag }: BtfType,
  member: BtfMember,
): { bitOffset: number; bits?: number } {
  if (flag) {
    const [bitOffset, bits] = [member.offset & 0xffffff, member.offset >>> 24];
    return bits === 0 ? { bitOffset } : { bitOffset, bits };
  }
  const { kind, int, size } = types[unwrap(types, member.type).id]!;
  const bits = int & 0xff;
  const isWhole = kind !== KIND.INT || bits === size * 8;
  return isWhole ? { bitOffset: member.offset } : { bitOffset: member.offset + ((int >>> 16) & 0xff), bits };
}
