import type { Field, Layout, StructLayout } from '../domain/layout.js';
import type { MapInfo } from '../domain/observed.js';
import { type BtfMember, type BtfType, DEEPEST, KIND, sizeOf, typeAt, unwrap } from './btf.js';

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

/** Of a struct with all that are in unnamed structs in it: twice two of them and so on would be without end. */
const MOST_FIELDS = 65_535;

/** What has been described so far, and how deep within the type that was asked for we are. */
interface Progress {
  readonly known: Map<number, Layout>;
  readonly depth: number;
}

/**
 * What a type means for whoever writes a value of it.
 *
 * @param id of the type; 0, which is `void`, for a map that tells of none
 * @returns undefined for what is no type of a value: nothing, a section of global data
 * @throws RangeError for types that contain themselves or that are not there, of which the kernel would not have taken any
 */
export function layoutOf(types: readonly BtfType[], id: number): Layout | undefined {
  const { kind } = typeAt(types, unwrap(types, id).id);
  return kind === 0 || kind === KIND.DATASEC ? undefined : layout(types, id, { known: new Map(), depth: 0 });
}

/** What a map's key and value mean, as far as the types tell: nothing where they are damaged, since the map may be loaded without them. */
export function layoutsIn(
  types: readonly BtfType[],
  keyType: number,
  valueType: number,
): Pick<MapInfo, 'key' | 'value'> {
  const of = (id: number) => orUndefined(() => layoutOf(types, id));
  const [key, value] = [of(keyType), of(valueType)];
  return { ...(key !== undefined && { key }), ...(value !== undefined && { value }) };
}

/** What is made of type information; undefined where that is damaged. */
export function orUndefined<Made>(make: () => Made): Made | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function layout(types: readonly BtfType[], wrapped: number, { known, depth }: Progress): Layout {
  const found = known.get(wrapped);
  if (found !== undefined) return found;
  if (depth > DEEPEST) throw new RangeError('A type contains itself, or more in each other than the kernel follows');
  const { id, names } = unwrap(types, wrapped);
  const made = describe(types, id, names, { known, depth: depth + 1 });
  known.set(wrapped, made);
  return made;
}

function describe(types: readonly BtfType[], id: number, names: readonly string[], progress: Progress): Layout {
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
    case KIND.STRUCT:
      if (KERNEL_FIELDS.has(type.name)) return { kind: 'opaque', size, what: `struct ${type.name}`, kernel: true };
      return struct(types, type, progress);
    default:
      return { kind: 'opaque', size: sizeOf(types, id), what: OPAQUE[type.kind] ?? 'no plain value', kernel: false };
  }
}

function struct(types: readonly BtfType[], type: BtfType, progress: Progress): StructLayout {
  let count = 0;
  const fields = type.members.flatMap((member): Field[] => {
    const inner = layout(types, member.type, progress);
    const { bitOffset, bits } = placeOf(types, type, member);
    count += inner.kind === 'struct' ? inner.fields.length : 1;
    if (count > MOST_FIELDS) throw new RangeError(`A struct has more than ${MOST_FIELDS} fields`);
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
  const { kind, int, size } = typeAt(types, unwrap(types, member.type).id);
  const bits = int & 0xff;
  const isWhole = kind !== KIND.INT || bits === size * 8;
  return isWhole ? { bitOffset: member.offset } : { bitOffset: member.offset + ((int >>> 16) & 0xff), bits };
}
