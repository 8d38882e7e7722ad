import { createHash } from 'node:crypto';
import { headers, type JetStreamClient, type JetStreamManager, nuid, type PubAck } from 'nats';

/** What is to be stored. */
export interface Upload {
  readonly content: AsyncIterable<Uint8Array>;
  /** Told how many bytes more are on their way. */
  readonly onProgress?: (bytes: number) => void;
}

/** Where it is to be stored. */
export interface UploadTarget {
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly bucket: string;
  readonly name: string;
  /** Of a message, in bytes, as the server says. */
  readonly maxPayload: number;
  /** The object there must be the one with this sequence, 0 for none; undefined for whichever there is. */
  readonly after?: number | undefined;
}

/** The usual one (ADR-20 of NATS). In bytes. */
const CHUNK_BYTES = 128 * 1024;

/** So many chunks may be on their way at a time. */
const UNDER_WAY = 16;

/**
 * Stores an object as ADR-20 of NATS has it: its chunks, and then the message that makes them an object. nats.js could do that too, but what
 * it sends while the server refuses or goes away fails where nobody can catch it.
 *
 * @returns where what it consists of lies: `$O.<bucket>.C.<id>`
 * @throws what nats.js throws, and what reading the content throws; of what is not stored nothing stays, as long as the server is there
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
    // Only where the server has refused it: what was merely not answered may be stored, and then its chunks are needed.
    if (isRefusal(error)) await removeChunks();
    throw error;
  }
}

/** An object's name as it stands in subjects: with padding, as clients write it. */
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
  for await (const chunk of inChunks(content, chunkBytes)) {
    const sent = js.publish(`$O.${bucket}.C.${id}`, chunk, { expect: { streamName: `OBJ_${bucket}` } });
    // Awaited below, unless another one fails first.
    sent.catch(() => {});
    underWay.push(sent);
    hash.update(chunk);
    size += chunk.length;
    chunks += 1;
    onProgress(chunk.length);
    if (underWay.length === UNDER_WAY) await Promise.all(underWay.splice(0));
  }
  await Promise.all(underWay);
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
