import { Struct } from '../struct.js';

/*
 * The structures of a 64-bit little-endian ELF file; elf(5) names their fields. A test compares them with the C
 * library's <elf.h> (integration/datapath/libbpf/abi).
 */

export const ELF_HEADER = new Struct('Elf64_Ehdr', {
  e_ident: 'u8[16]',
  e_type: 'u16',
  e_machine: 'u16',
  e_version: 'u32',
  e_entry: 'u64',
  e_phoff: 'u64',
  e_shoff: 'u64',
  e_flags: 'u32',
  e_ehsize: 'u16',
  e_phentsize: 'u16',
  e_phnum: 'u16',
  e_shentsize: 'u16',
  e_shnum: 'u16',
  e_shstrndx: 'u16',
});

export const SECTION_HEADER = new Struct('Elf64_Shdr', {
  sh_name: 'u32',
  sh_type: 'u32',
  sh_flags: 'u64',
  sh_addr: 'u64',
  sh_offset: 'u64',
  sh_size: 'u64',
  sh_link: 'u32',
  sh_info: 'u32',
  sh_addralign: 'u64',
  sh_entsize: 'u64',
});

export const SEGMENT_HEADER = new Struct('Elf64_Phdr', {
  p_type: 'u32',
  p_flags: 'u32',
  p_offset: 'u64',
  p_vaddr: 'u64',
  p_paddr: 'u64',
  p_filesz: 'u64',
  p_memsz: 'u64',
  p_align: 'u64',
});

export const SYMBOL = new Struct('Elf64_Sym', {
  st_name: 'u32',
  st_info: 'u8',
  st_other: 'u8',
  st_shndx: 'u16',
  st_value: 'u64',
  st_size: 'u64',
});

/** The halves of `r_info`: the type is the lower, the symbol the upper one. */
export const RELOCATION = new Struct('Elf64_Rel', { r_offset: 'u64', r_info: 'u32', symbol: 'u32' });

/** Bytes of `e_ident` after the magic number: word size and byte order of the file. */
const [EI_CLASS, EI_DATA] = [4, 5];
const [ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB] = [2, 1, 2];

/** Whether a file begins with the ELF magic number. */
export function isElf(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, 4) === '\x7fELF';
}

/** Whether an ELF file has the structures of this file. */
export function is64BitLittleEndian(header: Buffer): boolean {
  return header[EI_CLASS] === ELFCLASS64 && header[EI_DATA] === ELFDATA2LSB;
}

export function isBigEndian(header: Buffer): boolean {
  return header[EI_DATA] === ELFDATA2MSB;
}

/** The type of a symbol: the lower half of `st_info`, as in ELF64_ST_TYPE. */
export function symbolType(symbols: Buffer, at = 0): number {
  return SYMBOL.read(symbols, 'st_info', at) & 0xf;
}
