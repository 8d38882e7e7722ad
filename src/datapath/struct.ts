/*
 * C structures by the names of their fields. Offsets and sizes follow from the fields, as the C ABI of 64-bit Linux
 * lays them out, in little-endian order. No offset is written down anywhere else.
 */

/** Sizes and alignments in bytes. `ptr` is an address. */
const SCALARS = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8, ptr: 8 } as const;

type Scalar = keyof typeof SCALARS;

/**
 * A scalar; characters; bytes that are never read; or a field that begins a union whose other members need another
 * alignment.
 */
export type FieldType =
  | Scalar
  | `char[${number}]`
  | `u8[${number}]`
  | { readonly type: Scalar; readonly align: number };

interface PlacedField {
  readonly type: Scalar | 'bytes';
  readonly offset: number;
  readonly size: number;
}

/** A structure, for reading and writing in buffers. */
export class Struct<Name extends string> {
  /** The name in C: `bpf_prog_info`. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  readonly #fields: ReadonlyMap<string, PlacedField>;

  constructor(name: string, fields: Readonly<Record<Name, FieldType>>) {
    this.name = name;
    const { placed, size } = layOut(Object.entries<FieldType>(fields));
    this.#fields = placed;
    this.size = size;
  }

  /** Names of the fields, in order. */
  get fields(): Name[] {
    return [...this.#fields.keys()] as Name[];
  }

  /** Offset of a field, in bytes. */
  offsetOf(name: Name): number {
    return this.#field(name).offset;
  }

  /**
   * Number of bytes up to the end of a field. To request only the part of a structure that an older kernel knows too.
   */
  sizeThrough(name: Name): number {
    const { offset, size } = this.#field(name);
    return offset + size;
  }

  /** A structure of zeros, except for these values. @param bytes its length, if only a part of it is wanted */
  make(values?: Readonly<Partial<Record<Name, number | bigint>>>, bytes = this.size): Buffer {
    const buffer = Buffer.alloc(bytes);
    for (const [name, value] of Object.entries(values ?? {}) as [Name, number | bigint][])
      this.write(buffer, name, value);
    return buffer;
  }

  /**
   * The number in a field.
   *
   * @param at where the structure begins in the buffer
   * @throws RangeError if the buffer ends before the end of the field
   */
  read(buffer: Buffer, name: Name, at = 0): number {
    const { type, offset } = this.#field(name);
    const place = at + offset;
    if (type === 'u32') return buffer.readUInt32LE(place);
    if (type === 's32') return buffer.readInt32LE(place);
    if (type === 'u16') return buffer.readUInt16LE(place);
    if (type === 'u8') return buffer.readUInt8(place);
    if (type === 'bytes') throw new TypeError(`${this.name}.${name} is not a number`);
    return Number(buffer.readBigUInt64LE(place));
  }

  /** The characters in a field, up to the first zero. */
  text(buffer: Buffer, name: Name): string {
    const { offset, size } = this.#field(name);
    const characters = buffer.subarray(offset, offset + size);
    const end = characters.indexOf(0);
    return characters.toString('latin1', 0, end === -1 ? size : end);
  }

  /** @throws RangeError for a value that does not fit into the field */
  write(buffer: Buffer, name: Name, value: number | bigint): void {
    const { type, offset } = this.#field(name);
    if (type === 'u32') buffer.writeUInt32LE(Number(value), offset);
    else if (type === 's32') buffer.writeInt32LE(Number(value), offset);
    else if (type === 'u16') buffer.writeUInt16LE(Number(value), offset);
    else if (type === 'u8') buffer.writeUInt8(Number(value), offset);
    else if (type === 'bytes') throw new TypeError(`${this.name}.${name} is not a number`);
    else buffer.writeBigUInt64LE(BigInt(value), offset);
  }

  #field(name: Name): PlacedField {
    const field = this.#fields.get(name);
    if (field === undefined) throw new TypeError(`${this.name} has no field ${name}`);
    return field;
  }
}

/**
 * Each field is at the next offset that its alignment allows; the structure ends where the next element of an array
 * could begin.
 */
function layOut(fields: readonly (readonly [string, FieldType])[]): { placed: Map<string, PlacedField>; size: number } {
  const placed = new Map<string, PlacedField>();
  let end = 0;
  let widest = 1;
  for (const [name, declared] of fields) {
    const { type, size, align } = measure(declared);
    const offset = roundUp(end, align);
    placed.set(name, { type, offset, size });
    end = offset + size;
    widest = Math.max(widest, align);
  }
  return { placed, size: roundUp(end, widest) };
}

function measure(declared: FieldType): { type: PlacedField['type']; size: number; align: number } {
  if (typeof declared === 'object') return { ...measure(declared.type), align: declared.align };
  if (declared in SCALARS) {
    const size = SCALARS[declared as Scalar];
    return { type: declared as Scalar, size, align: size };
  }
  return { type: 'bytes', size: Number(/\[([0-9]+)\]$/.exec(declared)![1]), align: 1 };
}

function roundUp(bytes: number, align: number): number {
  return Math.ceil(bytes / align) * align;
}
