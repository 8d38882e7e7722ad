import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { AgentError, messageOf } from '../../errors.js';
import { cString } from '../btf/btf.js';
import { ELF_HEADER, is64BitLittleEndian, isElf, SECTION_HEADER, SEGMENT_HEADER, SYMBOL, symbolType } from './elf.js';

/*
 * Finds the position of a function in a program or library, to which a uprobe is attached. Supports 64-bit
 * little-endian ELF files, which all machines have that the agent runs on.
 */

const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
const PT_LOAD = 1;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;

/**
 * Offset of a function from the start of its file, in bytes.
 *
 * @throws AgentError ATTACH_FAILED if the file is not such a file, or has no function of that name, or several
 */
export function functionOffset(path: string, symbol: string): number {
  using file = openElf(path);
  const header = file.read(0, ELF_HEADER.size);
  if (!isElf(header) || !is64BitLittleEndian(header)) {
    throw new AgentError('ATTACH_FAILED', `${path} is not a 64-bit little-endian ELF file`);
  }
  const addresses = new Set(
    sectionsOf(file, header).flatMap((section, _, all) => addressesIn(file, section, all, symbol)),
  );
  const [address, ...others] = addresses;
  if (address === undefined) throw new AgentError('ATTACH_FAILED', `${path} has no function ${symbol}`);
  if (others.length > 0) {
    const message = `${path} has ${addresses.size} functions ${symbol}; name one by its offset in the file`;
    throw new AgentError('ATTACH_FAILED', message);
  }
  const segment = segmentsOf(file, header).find(({ start, size }) => address >= start && address < start + size);
  if (segment === undefined) throw new AgentError('ATTACH_FAILED', `${symbol} is not in any segment of ${path}`);
  return address - segment.start + segment.offset;
}

interface Elf extends Disposable {
  read(offset: number, length: number): Buffer;
}

function openElf(path: string): Elf {
  let fd: number;
  let size: number;
  try {
    const stat = statSync(path);
    // Opening a FIFO waits for a writer, and opening a device may have side effects.
    if (!stat.isFile()) throw new Error('it is not a regular file');
    size = stat.size;
    fd = openSync(path, 'r');
  } catch (cause) {
    const why = messageOf(cause);
    throw new AgentError('ATTACH_FAILED', `Cannot open ${path} to attach to it (${why})`, { cause });
  }
  return {
    read(offset, length) {
      // Checked before memory is allocated: a damaged file may claim any length.
      const bytes = Buffer.alloc(offset + length <= size ? length : 0);
      if (bytes.length === length && readSync(fd, bytes, 0, length, offset) === length) return bytes;
      throw new AgentError('ATTACH_FAILED', `${path} is truncated`);
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

interface SymbolSection {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

function sectionsOf(file: Elf, header: Buffer): SymbolSection[] {
  const [entry, count] = [ELF_HEADER.read(header, 'e_shentsize'), ELF_HEADER.read(header, 'e_shnum')];
  if (count === 0) return [];
  const bytes = file.read(ELF_HEADER.read(header, 'e_shoff'), entry * count);
  return Array.from({ length: count }, (_, index) => {
    const at = index * entry;
    return {
      type: SECTION_HEADER.read(bytes, 'sh_type', at),
      offset: SECTION_HEADER.read(bytes, 'sh_offset', at),
      size: SECTION_HEADER.read(bytes, 'sh_size', at),
      link: SECTION_HEADER.read(bytes, 'sh_link', at),
    };
  });
}

function addressesIn(file: Elf, section: SymbolSection, all: readonly SymbolSection[], symbol: string): number[] {
  const strings = all[section.link];
  if ((section.type !== SHT_SYMTAB && section.type !== SHT_DYNSYM) || strings === undefined) return [];
  const [symbols, names] = [file.read(section.offset, section.size), file.read(strings.offset, strings.size)];
  const found: number[] = [];
  for (let at = 0; at + SYMBOL.size <= symbols.length; at += SYMBOL.size) {
    const type = symbolType(symbols, at);
    const isDefined = SYMBOL.read(symbols, 'st_shndx', at) !== 0;
    if (!isDefined || (type !== STT_FUNC && type !== STT_GNU_IFUNC)) continue;
    const isNamedSo = cString(names, SYMBOL.read(symbols, 'st_name', at)) === symbol;
    if (isNamedSo) found.push(SYMBOL.read(symbols, 'st_value', at));
  }
  return found;
}

interface LoadSegment {
  readonly start: number;
  readonly size: number;
  readonly offset: number;
}

function segmentsOf(file: Elf, header: Buffer): LoadSegment[] {
  const [entry, count] = [ELF_HEADER.read(header, 'e_phentsize'), ELF_HEADER.read(header, 'e_phnum')];
  const bytes = file.read(ELF_HEADER.read(header, 'e_phoff'), entry * count);
  return Array.from({ length: count }, (_, index) => index * entry)
    .filter((at) => SEGMENT_HEADER.read(bytes, 'p_type', at) === PT_LOAD)
    .map((at) => ({
      offset: SEGMENT_HEADER.read(bytes, 'p_offset', at),
      start: SEGMENT_HEADER.read(bytes, 'p_vaddr', at),
      size: SEGMENT_HEADER.read(bytes, 'p_filesz', at),
    }));
}
