import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { type ArchiveEntry, type ArchivePart, invalid, type Meter } from './archive.js';

const TYPES: Readonly<Record<string, ArchiveEntry['type']>> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file',
  Directory: 'directory',
  Link: 'hard link',
  SymbolicLink: 'symbolic link',
  CharacterDevice: 'character device',
  BlockDevice: 'block device',
  FIFO: 'FIFO',
};

const GZIP_MAGIC = 0x1f;

/** Reads a gzip-compressed tar archive. Strict: damage, and anything that the parser would ignore, is an error. */
export async function* readTar(path: string, meter: Meter): AsyncGenerator<ArchivePart> {
  const tar = startParser();
  // Node's gunzip runs in the thread pool. The parser's own would block the event loop.
  const gunzip = createGunzip();
  const blocks = pipeline(createReadStream(path), gunzip, () => {});
  let first = true;
  for await (const chunk of blocks as AsyncIterable<Buffer>) {
    // The parser would decompress a second time by itself, and the meter could not count those bytes.
    if (first && chunk[0] === GZIP_MAGIC) throw invalid('it is compressed twice');
    first = false;
    meter(chunk.length);
    yield* tar.feed(chunk);
  }
  yield* tar.finish();
  // The parser ignores what follows the end, but another reader could find an archive there.
  for await (const rest of createReadStream(path, { start: gunzip.bytesWritten }) as AsyncIterable<Buffer>) {
    if (rest.some((byte) => byte !== 0)) throw invalid('there is data after its end');
  }
}

interface TarParser {
  feed(chunk: Buffer): readonly ArchivePart[];
  finish(): readonly ArchivePart[];
}

/** The parser emits events synchronously during a write, so the entries of one chunk can be returned as a list. */
function startParser(): TarParser {
  const parser = new Parser({ strict: true, zstd: false });
  const faults: unknown[] = [];
  const parts: ArchivePart[] = [];
  let ended = false;
  let complete = false;

  parser.on('error', (error: unknown) => faults.push(error));
  parser.on('nullBlock', () => {
    ended = true;
  });
  parser.on('eof', () => {
    complete = true;
  });
  parser.on('meta', (text: string) => {
    const fault = faultOfMeta(text);
    if (fault !== undefined) faults.push(invalid(fault));
  });
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    parts.push({ path: entry.path, type: 'sparse file or another special entry', mode: 0 });
  });
  parser.on('entry', (entry: ReadEntry) => {
    // Other readers stop at the first empty block, and use the path of a global header.
    if (ended) faults.push(invalid('there are entries after its end'));
    if (entry.globalExtended?.path !== undefined) faults.push(invalid('a global header sets the path of all files'));
    parts.push({
      path: entry.path,
      type: TYPES[entry.type] ?? 'sparse file or another special entry',
      mode: entry.mode ?? 0,
    });
    entry.on('data', (piece: Buffer) => parts.push(piece));
  });

  const handOver = () => {
    if (faults.length > 0) throw faults[0];
    return parts.splice(0);
  };
  return {
    feed(chunk) {
      parser.write(chunk);
      return handOver();
    },
    finish() {
      parser.end();
      const rest = handOver();
      if (!complete) throw invalid('it is truncated: the end-of-archive mark is missing');
      return rest;
    },
  };
}

/**
 * Finds faults in an extended (pax) header that the parser ignores or cuts off, but other readers may not. A person who
 * lists an archive before publishing it must see exactly what agents unpack.
 */
function faultOfMeta(text: string): string | undefined {
  if (/(^|\n)\d+ (link)?path=[^\n]*\0/.test(text)) return 'a name holds a NUL';
  if (/(^|\n)\d+ GNU\.sparse\./.test(text)) return 'it holds a sparse file';
  const names = text.matchAll(/^(\d+) (?:link)?path=[^\n]*$/gm);
  const whole = [...names].every(([line, length]) => Buffer.byteLength(line) + 1 === Number(length));
  return whole ? undefined : 'a name holds a line break, or its header is damaged';
}
