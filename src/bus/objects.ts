import { createHash } from 'node:crypto';
import type { Msg, NatsConnection } from 'nats';
import { AgentError } from '../errors.js';
import { isTransient } from './nats-errors.js';

/** What reading needs of a {@link file://./connect.ts Bus}. */
export interface ObjectReader {
  readonly nc: NatsConnection;
  readonly connection: { guard<T>(exchange: Promise<T>): Promise<T> };
  readonly jsApiPrefix: string;
}

/** One read operation, from the first request to the last. */
interface ObjectReading extends ObjectReader {
  readonly bucket: string;
  /** Rejects when the read is cancelled. */
  readonly givenUp: Promise<never>;
}

export interface OpenedObject {
  /** In bytes. */
  readonly size: number;
  /** Fails with a transient error when the object is replaced meanwhile or arrives damaged. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** What the store records about an object (ADR-20 of NATS). */
export interface ObjectInfo {
  readonly nuid: string;
  /** In bytes. */
  readonly size: number;
  /** `SHA-256=<base64url>` */
  readonly digest: string;
}

/** The part of the answer to `STREAM.INFO` (ADR-2 of NATS) that matters here. */
interface StreamInfo {
  readonly config?: { readonly allow_direct?: boolean };
  readonly error?: { readonly code?: number; readonly description?: string };
}

const TIMEOUT_MS = 10_000;

/**
 * Opens an object of an object store. It is read chunk by chunk with direct gets. So no consumer is left behind, the
 * reader sets the pace, and few permissions are needed: `STREAM.INFO.OBJ_<bucket>`, `DIRECT.GET.OBJ_<bucket>` and all
 * below it.
 *
 * @returns undefined if there is no such object or no such bucket
 * @throws AgentError ARTIFACT_UNREACHABLE, transient while the broker or the store is away
 */
export async function openStoredObject(
  reader: ObjectReader,
  bucket: string,
  name: string,
  signal: AbortSignal,
): Promise<OpenedObject | undefined> {
  const reading = { ...reader, bucket, givenUp: aborted(signal) };
  if (!(await isThere(reading))) return undefined;
  const answer = await get(reading, `.$O.${bucket}.M.${base64Url(Buffer.from(name))}`, '');
  const info = answer === undefined ? undefined : readObjectInfo(answer.string());
  if (info === undefined) return undefined;
  if (typeof info !== 'string') return { size: info.size, content: chunksOf(reading, info) };
  throw new AgentError('ARTIFACT_INVALID', `${name} in the object store ${bucket} is ${info}, not an object`);
}

/**
 * Parses the message that describes an object in an object store. Whoever may write to the store may write anything
 * there.
 *
 * @returns undefined for a deleted object; a short text if it describes no object
 */
export function readObjectInfo(text: string): ObjectInfo | 'a link' | 'something else' | undefined {
  const value = parsed(text);
  if (typeof value !== 'object' || value === null) return 'something else';
  const { deleted, options, nuid, size, digest } = value as Readonly<Record<string, unknown>>;
  if (deleted === true) return undefined;
  if (typeof options === 'object' && options !== null && 'link' in options) return 'a link';
  const named = typeof nuid === 'string' && /^\w+$/.test(nuid);
  const known = typeof digest === 'string' && /^SHA-256=[\w-]{43}=$/.test(digest);
  const sized = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
  return named && known && sized ? { nuid, size, digest } : 'something else';
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Checked first, since a direct get of a stream that does not exist is never answered. */
async function isThere(reading: ObjectReading): Promise<boolean> {
  const answer = await exchanged(reading, `STREAM.INFO.OBJ_${reading.bucket}`, '');
  const { error, config } = answer.json() as StreamInfo;
  if (error?.code === 404) return false;
  if (error !== undefined) throw unreachable(reading.bucket, error.description ?? '', error.code === 503);
  if (config?.allow_direct === true) return true;
  throw unreachable(reading.bucket, 'it does not allow direct gets', false);
}

async function* chunksOf(reading: ObjectReading, info: ObjectInfo): AsyncGenerator<Uint8Array> {
  const { bucket } = reading;
  const hash = createHash('sha256');
  let received = 0;
  let last = 0;
  while (received < info.size) {
    const wanted = { seq: last + 1, next_by_subj: `$O.${bucket}.C.${info.nuid}` };
    const chunk = await get(reading, '', JSON.stringify(wanted));
    const seq = Number(chunk?.headers?.get('Nats-Sequence'));
    if (chunk === undefined || !(seq > last)) throw damaged(bucket, 'was replaced while it was read');
    last = seq;
    received += chunk.data.length;
    hash.update(chunk.data);
    yield chunk.data;
  }
  if (info.digest !== `SHA-256=${base64Url(hash.digest())}`) throw damaged(bucket, 'does not match its digest');
}

/** @returns undefined for "no such message" */
async function get(reading: ObjectReading, subject: string, body: string): Promise<Msg | undefined> {
  const answer = await exchanged(reading, `DIRECT.GET.OBJ_${reading.bucket}${subject}`, body);
  const code = answer.headers?.code ?? 0;
  if (code === 404) return undefined;
  if (code === 0) return answer;
  throw unreachable(reading.bucket, `the server answered ${code} ${answer.headers?.description ?? ''}`.trim(), false);
}

async function exchanged(reading: ObjectReading, subject: string, body: string): Promise<Msg> {
  const { nc, connection, jsApiPrefix, bucket, givenUp } = reading;
  try {
    const exchange = connection.guard(nc.request(`${jsApiPrefix}.${subject}`, body, { timeout: TIMEOUT_MS }));
    return await Promise.race([exchange, givenUp]);
  } catch (error) {
    throw unreachable(bucket, (error as Error).message, isTransient(error), error);
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  const promise = new Promise<never>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  // Between two requests nobody awaits it.
  promise.catch(() => {});
  return promise;
}

function damaged(bucket: string, what: string): AgentError {
  return unreachable(bucket, `an object ${what}`, true);
}

function unreachable(bucket: string, reason: string, transient: boolean, cause?: unknown): AgentError {
  const message = `The object store ${bucket} cannot be read: ${reason}`;
  return new AgentError('ARTIFACT_UNREACHABLE', message, { cause, transient });
}

/** With padding, as clients write it. */
function base64Url(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}
