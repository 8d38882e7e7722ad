import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { AgentError } from '../errors.js';
import { cString } from './btf.js';

/*
 * Where a function lies in a program or library: what a uprobe is attached by. Of 64-bit little-endian ELF files, as all machines have
 * them that the agent runs on.
 */

const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
const PT_LOAD = 1;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;

/**
 * Offset of a function from the beginning of its file, in bytes.
 *
 * @throws AgentError ATTACH_FAILED where the file is no such program, or has no such function or several
 */
export function functionOffset(path: string, symbol: string): number {
  using file = openElf(path);
  const header = file.read(0, HEADER_BYTES);
  if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) {
    throw new AgentError('ATTACH_FAILED', `${path} is no 64-bit little-endian ELF file`);
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
  if (segment === undefined) throw new AgentError('ATTACH_FAILED', `${symbol} lies in no segment of ${path}`);
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
    // Opening a FIFO waits for a writer, and opening a device may act.
    if (!stat.isFile()) throw new Error('it is not a regular file');
    size = stat.size;
    fd = openSync(path, 'r');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AgentError('ATTACH_FAILED', `Cannot open ${path} to attach to it (${why})`, { cause });
  }
  return {
    read(offset, length) {
      // Before memory is taken for it: a damaged file may claim any length.
      const bytes = Buffer.alloc(offset + length <= size ? length : 0);
      if (bytes.length === length && readSync(fd, bytes, 0, length, offset) === length) return bytes;
      throw new AgentError('ATTACH_FAILED', `${path} is cut short`);
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

function sectionsOf(file: Elf, header: Buffer): Section[] {
  const [table, entry, count] = [Number(header.readBigUInt64LE(40)), header.readUInt16LE(58), header.readUInt16LE(60)];
  if (count === 0) return [];
  const bytes = file.read(table, entry * count);
  return Array.from({ length: count }, (_, index) => {
    const at = bytes.subarray(index * entry);
    return {
      type: at.readUInt32LE(4),
      offset: Number(at.readBigUInt64LE(24)),
      size: Number(at.readBigUInt64LE(32)),
      link: at.readUInt32LE(40),
    };
  });
}

function addressesIn(file: Elf, section: Section, all: readonly Section[], symbol: string): number[] {
  const strings = all[section.link];
  if ((section.type !== SHT_SYMTAB && section.type !== SHT_DYNSYM) || strings === undefined) return [];
  const [symbols, names] = [file.read(section.offset, section.size), file.read(strings.offset, strings.size)];
  const found: number[] = [];
  for (let at = 0; at + SYMBOL_BYTES <= symbols.length; at += SYMBOL_BYTES) {
    const type = symbols[at + 4]! & 0xf;
    const isDefined = symbols.readUInt16LE(at + 6) !== 0;
    if (!isDefined || (type !== STT_FUNC && type !== STT_GNU_IFUNC)) continue;
    if (cString(names, symbols.readUInt32LE(at)) === symbol) found.push(Number(symbols.readBigUInt64LE(at + 8)));
  }
  return found;
}

interface Segment {
  readonly start: number;
  readonly size: number;
  readonly offset: number;
}

function segmentsOf(file: Elf, header: Buffer): Segment[] {
  const [table, entry, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(54), header.readUInt16LE(56)];
  const bytes = file.read(table, entry * count);
  return Array.from({ length: count }, (_, index) => bytes.subarray(index * entry))
    .filter((at) => at.readUInt32LE(0) === PT_LOAD)
    .map((at) => ({
      offset: Number(at.readBigUInt64LE(8)),
      start: Number(at.readBigUInt64LE(16)),
      size: Number(at.readBigUInt64LE(32)),
    }));
}
