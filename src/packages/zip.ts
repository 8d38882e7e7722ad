import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { type ArchiveEntry, type ArchivePart, invalid, type Meter } from './archive.js';

/** Bits of st_mode that say what a file is, see inode(7). */
const S_IFMT = 0o170000;

const TYPES: ReadonlyMap<number, ArchiveEntry['type']> = new Map([
  [0o010000, 'FIFO'],
  [0o020000, 'character device'],
  [0o040000, 'directory'],
  [0o060000, 'block device'],
  [0o100000, 'file'],
  [0o120000, 'symbolic link'],
  [0o140000, 'socket'],
]);

/** Reads a zip archive by its central directory, checking the size and the CRC of each entry. */
export async function* readZip(path: string, meter: Meter): AsyncGenerator<ArchivePart> {
  const zip = await openPromise(path, { strictFileNames: true });
  for await (const entry of zip.eachEntry()) {
    const described = describe(entry);
    await requireOneName(zip, entry);
    yield described;
    if (described.type === 'file') yield* contentOf(zip, entry, meter);
  }
}

/** An entry has two headers, and readers differ in which they use. So both must have the same name. */
async function requireOneName(zip: ZipFile, entry: Entry): Promise<void> {
  const { fileName } = await zip.readLocalFileHeaderPromise(entry);
  if (fileName.equals(entry.fileNameRaw)) return;
  throw invalid(`${JSON.stringify(entry.fileName)} has a different name in its local header`);
}

function describe(entry: Entry): ArchiveEntry {
  // The upper half of the external attributes is st_mode if the archive was made on Unix, else 0 (APPNOTE 4.4.15).
  const mode = entry.externalFileAttributes >>> 16;
  return { path: entry.fileName, type: typeOf(mode & S_IFMT, entry.fileName), mode: mode & 0o7777 };
}

function typeOf(format: number, name: string): ArchiveEntry['type'] {
  const byName = name.endsWith('/') ? 'directory' : 'file';
  const type = format === 0 ? byName : (TYPES.get(format) ?? 'sparse file or another special entry');
  // Some readers use the name to decide, others the mode.
  if (type === 'file' && byName === 'directory') throw invalid(`${JSON.stringify(name)} is both a file and a folder`);
  return type;
}

async function* contentOf(zip: ZipFile, entry: Entry, meter: Meter): AsyncGenerator<Uint8Array> {
  if (entry.isEncrypted()) throw invalid(`${JSON.stringify(entry.fileName)} is encrypted`);
  let checksum = 0;
  for await (const piece of (await zip.openReadStreamPromise(entry)) as AsyncIterable<Buffer>) {
    meter(piece.length);
    checksum = crc32(piece, checksum);
    yield piece;
  }
  if (checksum !== entry.crc32) throw invalid(`${JSON.stringify(entry.fileName)} is damaged: its CRC does not match`);
}
