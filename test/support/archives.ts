import { crc32, gzipSync } from 'node:zlib';

/*
 * Writers of archives that write any header, however wrong. Formats: tar(5) (ustar) and PKWARE's APPNOTE.TXT.
 */

export interface TarEntry {
  readonly path: string;
  readonly content?: string | Uint8Array;
  /** Permission bits. */
  readonly mode?: number;
  /** The type flag: '0' file, '1' hard link, '2' symbolic link, '3' and '4' devices, '5' folder, '6' FIFO, 'x' pax header. */
  readonly type?: string;
  readonly linkTo?: string;
  /** The length in the header, if it differs from that of the content. */
  readonly statedSize?: number;
  /** The checksum in the header, if it differs from the true one. */
  readonly statedChecksum?: number;
}

/** An uncompressed tar archive, with the end-of-archive mark. */
export function tar(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(1024)]);
}

export function tarGz(entries: readonly TarEntry[]): Buffer {
  return gzipSync(tar(entries));
}

/** A pax extended header that sets one field of the next entry. */
export function paxHeader(field: string, value: string): TarEntry {
  const rest = ` ${field}=${value}\n`;
  const length = Buffer.byteLength(rest) + 2;
  return { path: 'PaxHeaders/0', type: 'x', content: `${length}${rest}` };
}

function tarEntry(entry: TarEntry): Buffer {
  const content = Buffer.from(entry.content ?? '');
  const header = Buffer.alloc(512);
  header.write(entry.path, 0, 100);
  header.write(octal(entry.mode ?? 0o644, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(entry.statedSize ?? content.length, 12), 124);
  header.write(octal(0, 12), 136);
  header.write('        ', 148);
  header.write(entry.type ?? '0', 156);
  header.write(entry.linkTo ?? '', 157, 100);
  header.write('ustar\u000000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(octal(entry.statedChecksum ?? sum, 8), 148);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}

export interface ZipEntry {
  readonly path: string;
  readonly content?: string | Uint8Array;
  /** The whole of st_mode, type bits included; 0 for an archive that was not written on Unix. */
  readonly mode?: number;
  /** 0 stored, 8 deflated, according to the headers; the content is always written uncompressed. */
  readonly method?: number;
  /** General purpose bits; 1 means encrypted. */
  readonly flags?: number;
  /** The value in the headers, if it differs from the true one. */
  readonly statedCrc?: number;
  /** The uncompressed size in the headers, if it differs from the length of the content. */
  readonly statedSize?: number;
}

export function zip(entries: readonly ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.path);
    const content = Buffer.from(entry.content ?? '');
    const fields = zipFields(entry, name, content);
    const local = Buffer.concat([uint32(0x04034b50), fields, name, content]);
    const attributes = ((entry.mode ?? 0o100644) << 16) >>> 0;
    directory.push(uint32(0x02014b50), uint16((3 << 8) | 20), fields, uint16(0), uint16(0), uint16(0));
    directory.push(uint32(attributes), uint32(offset), name);
    locals.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const count = uint16(entries.length);
  const end = [
    uint32(0x06054b50),
    uint16(0),
    uint16(0),
    count,
    count,
    uint32(central.length),
    uint32(offset),
    uint16(0),
  ];
  return Buffer.concat([...locals, central, ...end]);
}

/** The common part of the local and the central header, from "version needed" to the length of the extra field. */
function zipFields(entry: ZipEntry, name: Buffer, content: Buffer): Buffer {
  return Buffer.concat([
    uint16(20),
    uint16(entry.flags ?? 0x800),
    uint16(entry.method ?? 0),
    uint32(0),
    uint32(entry.statedCrc ?? crc32(content)),
    uint32(content.length),
    uint32(entry.statedSize ?? content.length),
    uint16(name.length),
    uint16(0),
  ]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}
