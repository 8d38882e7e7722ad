/**
 * The meaning of the bytes of a map's key or value, from the BTF of its object file: C types with typedefs resolved.
 * Sizes are in bytes.
 */
export type Layout = IntLayout | EnumLayout | ArrayLayout | StructLayout | UnionLayout | OpaqueLayout;

export interface IntLayout {
  readonly kind: 'int';
  readonly size: number;
  readonly signed: boolean;
  /** C's `bool`: only 0 and 1. */
  readonly bool: boolean;
  /** In network order: the type is one like `__be32`, or a typedef of it. */
  readonly network: boolean;
}

export interface EnumLayout {
  readonly kind: 'enum';
  readonly size: number;
  readonly signed: boolean;
  readonly network: boolean;
  /** Name to number. */
  readonly values: ReadonlyMap<string, bigint>;
}

export interface ArrayLayout {
  readonly kind: 'array';
  readonly size: number;
  readonly length: number;
  readonly element: Layout;
  /** An array of `char`, which can contain a text. */
  readonly text: boolean;
}

export interface StructLayout {
  readonly kind: 'struct';
  readonly size: number;
  /** `struct limit`, or `a struct` if it has no name. */
  readonly name: string;
  /** Includes the fields of nameless structs within. */
  readonly fields: readonly Field[];
  /** For the global variables of an object: the name of their section (`.rodata`). Each field is a variable. */
  readonly section?: string;
}

export interface UnionLayout {
  readonly kind: 'union';
  readonly size: number;
  /** `union mark`, or `a union` if it has no name. */
  readonly name: string;
  /** The members that share the same bytes. */
  readonly fields: readonly Field[];
}

export interface Field {
  /** '' for a nameless union in a struct, or for a nameless struct or union in a union. C reads its fields as if they were outside. */
  readonly name: string;
  /** From the beginning of the struct, in bits. */
  readonly bitOffset: number;
  /** The width of a bit-field, in bits. */
  readonly bits?: number;
  readonly layout: Layout;
}

/** A type whose value can only be given byte by byte. */
export interface OpaqueLayout {
  readonly kind: 'opaque';
  readonly size: number;
  /** `a pointer`. */
  readonly what: string;
  /** Whether only the kernel writes it (`struct bpf_spin_lock`). User space leaves it out. */
  readonly kernel: boolean;
}

/**
 * The field of that name, as C finds it: also within nameless structs and unions.
 *
 * @returns its place from the beginning of the given struct or union
 */
export function fieldNamed({ fields }: StructLayout | UnionLayout, name: string): Field | undefined {
  for (const field of fields) {
    if (field.name === name && name !== '') return field;
    if (field.name !== '' || (field.layout.kind !== 'struct' && field.layout.kind !== 'union')) continue;
    const inner = fieldNamed(field.layout, name);
    if (inner !== undefined) return { ...inner, bitOffset: field.bitOffset + inner.bitOffset };
  }
  return undefined;
}

/** The names of all fields that {@link fieldNamed} finds. */
export function fieldNames({ fields }: StructLayout | UnionLayout): readonly string[] {
  return fields.flatMap(({ name, layout }) => {
    if (name !== '') return [name];
    return layout.kind === 'struct' || layout.kind === 'union' ? fieldNames(layout) : [];
  });
}

/** The section of global variables whose content a map is; undefined for any other map. */
export function sectionOf({ value }: { readonly value?: Layout }): string | undefined {
  return value?.kind === 'struct' ? value.section : undefined;
}

/** Whether a section holds what is fixed when a program is loaded: `const volatile` variables, and what the kernel's configuration says. */
export function isConstantSection(section: string | undefined): boolean {
  return section !== undefined && /^\.(rodata|kconfig)/.test(section);
}
