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
  const blocks = pipeline(createReadStream(path), createGunzip(), () => {});
  let first = true;
  for await (const chunk of blocks as AsyncIterable<Buffer>) {
    // The parser undoes a second compression by itself, and out of the meter's sight.
    if (first && chunk[0] === GZIP_MAGIC) throw invalid('it is compressed twice');
    first = false;
    meter(chunk.length);
    yield* tar.feed(chunk);
  }
  yield* tar.finish();
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
  let complete = false;

  parser.on('error', (error: unknown) => faults.push(error));
  parser.on('eof', () => {
    complete = true;
  });
  parser.on('meta', (text: string) => {
    // The parser cuts a name at its first NUL, where another reader may not.
    if (/(^|\n)\d+ (link)?path=[^\n]*\0/.test(text)) faults.push(invalid('a name holds a NUL'));
  });
  parser.on('ignoredEntry', (entry: ReadEntry) => {
    parts.push({ path: entry.path, type: 'sparse file or another special entry', mode: 0 });
  });
  parser.on('entry', (entry: ReadEntry) => {
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
