import { readFileSync } from 'node:fs';
import { AgentError, messageOf } from '../../errors.js';
import { cString } from '../btf/btf.js';
import { checkBtf } from '../btf/check.js';
import { ELF_HEADER, is64BitLittleEndian, isBigEndian, isElf, SECTION_HEADER } from './elf.js';
import { type Section, tailCallTargets } from './tail-calls.js';

const EM_BPF = 247;
const ET_REL = 1;
const SHT_NOBITS = 8;

/** What libbpf does not tell of an object. */
export interface ObjectFile {
  /** See {@link tailCallTargets}. */
  readonly tailCalls: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * Checks that libbpf can be given a file without risk, and reads what libbpf does not tell.
 *
 * @throws AgentError OBJECT_INVALID
 */
export function readObjectFile(path: string): ObjectFile {
  try {
    const sections = readSections(readFileSync(path));
    checkSections(sections);
    return { tailCalls: tailCallTargets(sections) };
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    if (cause instanceof RangeError) throw damaged(cause);
    throw new AgentError('OBJECT_INVALID', `Cannot read the object file ${path}`, { cause });
  }
}

/**
 * Rejects objects that libbpf refuses without a clear reason, or on which it crashes. If the kernel has no BTF, libbpf
 * 1.1 crashes on `struct_ops`, even if it is not to be loaded (bpf_map__init_kern_struct_ops uses a BTF that does not
 * exist).
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
      'The object file defines maps in the old way, in a section "maps", which libbpf 1.0 and later reject';
    throw new AgentError('OBJECT_INVALID', `${message}; define them with BTF, in SEC(".maps")`);
  }
  if (has('.maps') && !has('.BTF')) {
    throw new AgentError('OBJECT_INVALID', 'The object file declares maps but has no BTF; compile with -g');
  }
  for (const { name, data } of sections) if (name === '.BTF') checkBtf(data);
}

/**
 * Sections whose programs libbpf attaches by the kernel's BTF (SEC_ATTACH_BTF in section_defs of its libbpf.c). libbpf
 * crashes on such a program if it is loaded as a program of another type, as every program of a chain is.
 */
const ATTACHED_BY_BTF = /^\??(fentry|fexit|fmod_ret|freplace|tp_btf|lsm|lsm_cgroup|iter|struct_ops)(\.s)?(\/|$)/;

/**
 * Rejects the entry function of a chain if its section makes it another kind of program.
 *
 * @throws AgentError OBJECT_INVALID
 */
export function checkEntrySection(section: string, entryFunction: string, programs: string): void {
  const [, kind] = ATTACHED_BY_BTF.exec(section) ?? [];
  if (kind !== undefined) throw entryOfAnotherKind(section, entryFunction, programs);
}

/** The error for an entry function that cannot be loaded as a program of a chain. */
export function entryOfAnotherKind(section: string, entryFunction: string, programs: string): AgentError {
  return new AgentError(
    'OBJECT_INVALID',
    `The section ${section} makes ${entryFunction} another kind of program; here the kernel takes only ${programs}`,
  );
}

/** Whether libbpf gives programs of a section BPF_F_XDP_HAS_FRAGS (section_defs of its libbpf.c). */
export function hasFrags(section: string): boolean {
  return section.startsWith('xdp.frags');
}

/**
 * The error for a program that its chain cannot call. What a chain's programs must agree in is in
 * `bpf_prog_map_compatible` of the kernel's kernel/bpf/core.c; which of it differs cannot be had from the kernel.
 */
export function unlikeItsChain(entryFunction: string, section: string, programType: string): AgentError {
  const [where, others] = [`${entryFunction} is in the section ${section}`, 'the other programs of its chain'];
  const ways =
    'run it without a chain (chaining: false), or in a chain whose root and programs are all of that kind (xdp_root_artifact)';
  const why = hasFrags(section)
    ? `${where}, and ${others} are not in sections xdp.frags: one calls the other only if both are. Build it with SEC("xdp"), ${ways}`
    : programType === 'xdp'
      ? `${where}, and ${others} are in sections xdp.frags: one calls the other only if both are. Build it with SEC("xdp.frags")`
      : `${others} must agree with it in type and expected attach type`;
  return new AgentError('LOAD_FAILED', `${entryFunction} does not fit into its chain: ${why}`, { path: 'object_file' });
}

/** The error for an object file whose parts contradict each other. */
export function damaged(cause: unknown): AgentError {
  const why = messageOf(cause);
  const message = `The object file is truncated or damaged (${why}); compile it again and publish the package again`;
  return new AgentError('OBJECT_INVALID', message, { cause, detail: why });
}

/** @throws AgentError OBJECT_INVALID for another file type, RangeError for a damaged file */
export function readSections(bytes: Buffer): Section[] {
  checkKind(bytes);
  const [table, entrySize] = [ELF_HEADER.read(bytes, 'e_shoff'), ELF_HEADER.read(bytes, 'e_shentsize')];
  const [count, namesIndex] = [ELF_HEADER.read(bytes, 'e_shnum'), ELF_HEADER.read(bytes, 'e_shstrndx')];
  const { size: entry } = SECTION_HEADER;
  if (entrySize !== entry) throw new RangeError(`its section headers have ${entrySize} bytes`);
  if (table + count * entry > bytes.length) throw new RangeError('its section headers lie beyond the end of the file');
  const headers = Array.from({ length: count }, (_, index) => bytes.subarray(table + index * entry));
  const dataOf = (header: Buffer) => {
    const [offset, size] = [SECTION_HEADER.read(header, 'sh_offset'), SECTION_HEADER.read(header, 'sh_size')];
    if (SECTION_HEADER.read(header, 'sh_type') === SHT_NOBITS) return bytes.subarray(0, 0);
    if (offset + size > bytes.length) throw new RangeError('one of its sections lies beyond the end of the file');
    return bytes.subarray(offset, offset + size);
  };
  const named = headers[namesIndex];
  if (named === undefined) throw new RangeError('its sections have no names');
  const names = dataOf(named);
  return headers.map((header, index) => ({
    index,
    name: cString(names, SECTION_HEADER.read(header, 'sh_name')),
    type: SECTION_HEADER.read(header, 'sh_type'),
    flags: SECTION_HEADER.read(header, 'sh_flags'),
    link: SECTION_HEADER.read(header, 'sh_link'),
    info: SECTION_HEADER.read(header, 'sh_info'),
    size: SECTION_HEADER.read(header, 'sh_size'),
    data: dataOf(header),
  }));
}

function checkKind(bytes: Buffer): void {
  if (!isElf(bytes)) throw refused('not an ELF file');
  if (bytes.length < ELF_HEADER.size) throw new RangeError('its header is incomplete');
  if (isBigEndian(bytes)) throw refused('in big-endian byte order', 'bpfel');
  const [type, machine] = [ELF_HEADER.read(bytes, 'e_type'), ELF_HEADER.read(bytes, 'e_machine')];
  if (machine !== EM_BPF) throw refused(`for another machine than eBPF (e_machine ${machine})`);
  if (!is64BitLittleEndian(bytes)) throw refused('not a 64-bit little-endian file');
  if (type !== ET_REL) throw refused(`an eBPF file but not a relocatable object (e_type ${type})`);
}

function refused(what: string, target = 'bpf'): AgentError {
  return new AgentError('OBJECT_INVALID', `The object file is ${what}; compile it with clang -target ${target}`);
}
