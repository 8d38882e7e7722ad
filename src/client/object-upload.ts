import { createHash } from 'node:crypto';
import { headers, type JetStreamClient, type JetStreamManager, nuid, type PubAck } from 'nats';

/** The object to store. */
export interface Upload {
  readonly content: AsyncIterable<Uint8Array>;
  /** Called with the number of further bytes that were sent. */
  readonly onProgress?: (bytes: number) => void;
}

/** Where to store it. */
export interface UploadTarget {
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly bucket: string;
  readonly name: string;
  /** The server's limit for a message, in bytes. */
  readonly maxPayload: number;
  /** The present object must have this sequence, 0 for none; undefined if it does not matter. */
  readonly after?: number | undefined;
}

/** The usual size (ADR-20 of NATS), in bytes. */
const CHUNK_BYTES = 128 * 1024;

/** How many chunks may be unconfirmed at a time. */
const UNDER_WAY = 16;

/**
 * Stores an object as ADR-20 of NATS describes: first its chunks, then the message that makes them an object. nats.js
 * could do that too, but when the server refuses a chunk or disappears, its sends fail where nobody can catch the
 * error.
 *
 * @returns the subject of its chunks: `$O.<bucket>.C.<id>`
 * @throws errors of nats.js and of reading the content; nothing remains of an object that is not stored, while the
 *   server is up
 */
export async function uploadObject(target: UploadTarget, upload: Upload): Promise<string> {
  const { js, jsm, bucket, name, maxPayload, after } = target;
  const id = nuid.next();
  // The headers of a message count too.
  const chunkBytes = Math.min(CHUNK_BYTES, Math.floor(maxPayload / 2));
  const removeChunks = () => jsm.streams.purge(`OBJ_${bucket}`, { filter: `$O.${bucket}.C.${id}` }).catch(() => {});
  const stored = await storeChunks(target, id, chunkBytes, upload).catch(async (error: unknown) => {
    await removeChunks();
    throw error;
  });
  const info = {
    name,
    options: { max_chunk_size: chunkBytes },
    bucket,
    nuid: id,
    ...stored,
    mtime: new Date().toISOString(),
  };
  const rollup = headers();
  rollup.set('Nats-Rollup', 'sub');
  const expect = { streamName: `OBJ_${bucket}`, ...(after !== undefined && { lastSubjectSequence: after }) };
  try {
    await js.publish(`$O.${bucket}.M.${base64Url(name)}`, JSON.stringify(info), { headers: rollup, expect });
    return id;
  } catch (error) {
    // Only if the server has refused it. A message without an answer may be stored, and then its chunks are needed.
    if (isRefusal(error)) await removeChunks();
    throw error;
  }
}

/** An object's name as in subjects: with padding, as clients write it. */
export function base64Url(name: string): string {
  return Buffer.from(name).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

async function storeChunks(
  { js, bucket }: UploadTarget,
  id: string,
  chunkBytes: number,
  { content, onProgress = () => {} }: Upload,
): Promise<{ size: number; chunks: number; digest: string }> {
  const hash = createHash('sha256');
  const underWay: Promise<PubAck>[] = [];
  let size = 0;
  let chunks = 0;
  try {
    for await (const chunk of inChunks(content, chunkBytes)) {
      const sent = js.publish(`$O.${bucket}.C.${id}`, chunk, { expect: { streamName: `OBJ_${bucket}` } });
      // Awaited below, unless another one fails first.
      sent.catch(() => {});
      underWay.push(sent);
      hash.update(chunk);
      size += chunk.length;
      chunks += 1;
      onProgress(chunk.length);
      if (underWay.length < UNDER_WAY) continue;
      await Promise.all(underWay);
      underWay.length = 0;
    }
    await Promise.all(underWay);
  } finally {
    // Otherwise chunks in transit would be stored after the caller has removed the others.
    await Promise.allSettled(underWay);
  }
  return { size, chunks, digest: `SHA-256=${hash.digest('base64url')}=` };
}

async function* inChunks(content: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array> {
  let rest = Buffer.alloc(0);
  for await (const part of content) {
    rest = Buffer.concat([rest, part]);
    for (; rest.length >= bytes; rest = rest.subarray(bytes)) yield rest.subarray(0, bytes);
  }
  if (rest.length > 0) yield rest;
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'api_error' in error && error.api_error !== undefined;
}
