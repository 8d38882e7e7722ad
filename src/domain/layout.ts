/**
 * What the bytes of a map's key or value mean, as the BTF of its object file has it: C's types without the names that only rename.
 * Sizes in bytes.
 */
export type Layout = IntLayout | EnumLayout | ArrayLayout | StructLayout | OpaqueLayout;

export interface IntLayout {
  readonly kind: 'int';
  readonly size: number;
  readonly signed: boolean;
  /** C's `bool`: nothing but 0 and 1. */
  readonly bool: boolean;
  /** In network order: the type is, or renames, one like `__be32`. */
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
  /** An array of `char`, which can hold a text. */
  readonly text: boolean;
}

export interface StructLayout {
  readonly kind: 'struct';
  readonly size: number;
  /** `struct limit`, or `a struct` for one without a name. */
  readonly name: string;
  /** Those of nameless structs within are among them. */
  readonly fields: readonly Field[];
}

export interface Field {
  /** '' for a nameless union, of which no field can be told. */
  readonly name: string;
  /** From the beginning of the struct, in bits. */
  readonly bitOffset: number;
  /** Of a bit-field: its width in bits. */
  readonly bits?: number;
  readonly layout: Layout;
}

/** What can only be given byte by byte. */
export interface OpaqueLayout {
  readonly kind: 'opaque';
  readonly size: number;
  /** `a union`. */
  readonly what: string;
  /** The kernel alone writes it (`struct bpf_spin_lock`): user space leaves it out. */
  readonly kernel: boolean;
}
