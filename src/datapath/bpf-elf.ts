import { readFileSync } from 'node:fs';
import { AgentError } from '../errors.js';
import { cString } from './btf.js';
import { checkBtf } from './btf-check.js';

/** A section of a compiled eBPF object. */
export interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly index: number;
  readonly link: number;
  readonly info: number;
  readonly data: Buffer;
}

const EM_BPF = 247;
const ET_REL = 1;
const HEADER_BYTES = 64;
const SHT_NOBITS = 8;

/**
 * That libbpf can be given a file without being led astray by it.
 *
 * @throws AgentError OBJECT_INVALID
 */
export function checkObjectFile(path: string): void {
  try {
    checkSections(readSections(readFileSync(path)));
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    if (cause instanceof RangeError) throw damaged(cause);
    throw new AgentError('OBJECT_INVALID', `Cannot read the object file ${path}`, { cause });
  }
}

/**
 * That there is nothing in an object that libbpf refuses in few words, or dies of: where the kernel has no BTF of its own, version 1.1 does
 * of `struct_ops`, also if nobody wants it loaded (bpf_map__init_kern_struct_ops asks a BTF that is not there).
 *
 * @throws AgentError OBJECT_INVALID, RangeError for damaged type information
 */
export function checkSections(sections: readonly Section[]): void {
  const has = (name: string) => sections.some((section) => section.name === name);
  const structOps = sections.find(({ name }) => /^\??\.struct_ops/.test(name));
  if (structOps !== undefined) {
    const message = `The object file has operations for the kernel (${structOps.name}), which the agent does not load`;
    throw new AgentError('OBJECT_INVALID', `${message}; put them into an object of their own`);
  }
  if (has('maps')) {
    const message =
      'The object file defines maps in the old way, in a section "maps", which libbpf 1.0 and later do not take';
    throw new AgentError('OBJECT_INVALID', `${message}; define them with BTF, in SEC(".maps")`);
  }
  if (has('.maps') && !has('.BTF')) {
    throw new AgentError('OBJECT_INVALID', 'The object file declares maps but has no BTF; compile with -g');
  }
  for (const { name, data } of sections) if (name === '.BTF') checkBtf(data);
}

/** What is said of an object file that does not hold what its parts say of each other. */
export function damaged(cause: unknown): AgentError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message = `The object file is cut short or damaged (${why}); compile it anew and publish the package again`;
  return new AgentError('OBJECT_INVALID', message, { cause, detail: why });
}

/** @throws AgentError OBJECT_INVALID for another kind of file, RangeError for a damaged one */
export function readSections(bytes: Buffer): Section[] {
  checkKind(bytes);
  const table = Number(bytes.readBigUInt64LE(40));
  const [entrySize, count, namesIndex] = [bytes.readUInt16LE(58), bytes.readUInt16LE(60), bytes.readUInt16LE(62)];
  if (entrySize !== HEADER_BYTES) throw new RangeError(`its section headers are of ${entrySize} bytes`);
  if (table + count * HEADER_BYTES > bytes.length) throw new RangeError('its section headers lie beyond its end');
  const headers = Array.from({ length: count }, (_, index) => bytes.subarray(table + index * HEADER_BYTES));
  const dataOf = (header: Buffer) => {
    const [offset, size] = [Number(header.readBigUInt64LE(24)), Number(header.readBigUInt64LE(32))];
    if (header.readUInt32LE(4) === SHT_NOBITS) return bytes.subarray(0, 0);
    if (offset + size > bytes.length) throw new RangeError('one of its sections lies beyond its end');
    return bytes.subarray(offset, offset + size);
  };
  const named = headers[namesIndex];
  if (named === undefined) throw new RangeError('its sections have no names');
  const names = dataOf(named);
  return headers.map((header, index) => ({
    index,
    name: cString(names, header.readUInt32LE(0)),
    type: header.readUInt32LE(4),
    flags: Number(header.readBigUInt64LE(8)),
    link: header.readUInt32LE(40),
    info: header.readUInt32LE(44),
    data: dataOf(header),
  }));
}

function checkKind(bytes: Buffer): void {
  if (bytes.length < 4 || bytes.readUInt32BE(0) !== 0x7f454c46) throw refused('not an ELF file');
  if (bytes.length < HEADER_BYTES) throw new RangeError('its header is not whole');
  if (bytes[5] === 2) throw refused('in big-endian byte order', 'bpfel');
  const [type, machine] = [bytes.readUInt16LE(16), bytes.readUInt16LE(18)];
  if (machine !== EM_BPF) throw refused(`for another machine than eBPF (e_machine ${machine})`);
  if (bytes[4] !== 2 || bytes[5] !== 1) throw refused('not a 64-bit little-endian one');
  if (type !== ET_REL) throw refused(`an eBPF file that is no object (e_type ${type})`);
}

function refused(what: string, target = 'bpf'): AgentError {
  return new AgentError('OBJECT_INVALID', `The object file is ${what}; compile it with clang -target ${target}`);
}
