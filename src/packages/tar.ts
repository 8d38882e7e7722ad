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

/** Reads a gzip-compressed tar archive; strict: damage and whatever the parser would pass over are errors. */
export async function* readTar(path: string, meter: Meter): AsyncGenerator<ArchivePart> {
  const tar = startParser();
  // Node's gunzip works in its thread pool; the parser's own would block the event loop.
  const gunzip = createGunzip();
  const blocks = pipeline(createReadStream(path), gunzip, () => {});
  let first = true;
  for await (const chunk of blocks as AsyncIterable<Buffer>) {
    // The parser undoes a second compression by itself, and out of the meter's sight.
    if (first && chunk[0] === GZIP_MAGIC) throw invalid('it is compressed twice');
    first = false;
    meter(chunk.length);
    yield* tar.feed(chunk);
  }
  yield* tar.finish();
  // What follows a zero byte is passed over, and could be an archive for another reader.
  for await (const rest of createReadStream(path, { start: gunzip.bytesWritten }) as AsyncIterable<Buffer>) {
    if (rest.some((byte) => byte !== 0)) throw invalid('something lies behind its end');
  }
}

interface TarParser {
  feed(chunk: Buffer): readonly ArchivePart[];
  finish(): readonly ArchivePart[];
}

/** The parser emits synchronously while it is written to, so that what one chunk holds can be handed on as a list. */
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
    // Other readers end at the first empty block, and take the path of a global header.
    if (ended) faults.push(invalid('it goes on behind its end'));
    if (entry.globalExtended?.path !== undefined) faults.push(invalid('it names all files at once'));
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
 * What of an extended header (pax) the parser passes over or cuts off, where another reader may not: who lists an archive before it is
 * published must see what agents will unpack.
 */
function faultOfMeta(text: string): string | undefined {
  if (/(^|\n)\d+ (link)?path=[^\n]*\0/.test(text)) return 'a name holds a NUL';
  if (/(^|\n)\d+ GNU\.sparse\./.test(text)) return 'it holds a sparse file';
  const names = text.matchAll(/^(\d+) (?:link)?path=[^\n]*$/gm);
  const whole = [...names].every(([line, length]) => Buffer.byteLength(line) + 1 === Number(length));
  return whole ? undefined : 'a name holds a line break, or its header is damaged';
}
