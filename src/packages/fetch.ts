import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Deadline } from '../deadline.js';
import { AgentError } from '../errors.js';
import { retry } from '../retry.js';
import { openHttp } from './http.js';
import type { FetchLimits } from './limits.js';
import { shownUrl } from './location.js';
import { openObject } from './object-store.js';
import { openRegular } from './regular-file.js';
import type { Transport } from './transport.js';

export interface FetchedFile {
  readonly path: string;
  /** SHA-256 in lower-case hexadecimal. */
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
}

/** The times that limit a copy. */
const LATE_MS = 1000;

/** Transient network faults (errno(3), getaddrinfo(3)). All others are permanent, such as an invalid certificate. */
const PASSING = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EAI_AGAIN',
  'ENOTFOUND',
  'ERR_STREAM_PREMATURE_CLOSE',
]);

/**
 * Downloads a URL to a file and computes its digest. Retries after transient faults.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE (transient if a later attempt may succeed),
 *   ARTIFACT_TOO_LARGE
 */
export async function fetchFile(url: URL, path: string, transport: Transport): Promise<FetchedFile> {
  const { limits, stop } = transport;
  using deadline = new Deadline(limits.totalMs, stop);
  const { signal } = deadline;
  try {
    return await retry(() => heeding(signal, copy(url, path, transport, signal)), {
      backoff: { firstMs: limits.backoffMs, capMs: Number.POSITIVE_INFINITY },
      signal,
      isPassing: (error, tries) => tries < limits.tries && faultOf(url, error).transient,
    });
  } catch (error) {
    if (stop.aborted) throw stopped(url, error);
    if (deadline.isOver) throw tooSlow(url, limits, error);
    throw faultOf(url, error);
  }
}

/**
 * Waits for work that normally ends by itself when the signal aborts. Stops waiting some time after the signal in any
 * case, since nothing may block the agent for ever.
 */
async function heeding<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const done = new AbortController();
  const overdue = async () => {
    if (!signal.aborted) await once(signal, 'abort', { signal: done.signal });
    await sleep(LATE_MS, undefined, { signal: done.signal });
    throw signal.reason;
  };
  try {
    return await Promise.race([work, overdue()]);
  } finally {
    done.abort();
  }
}

async function copy(url: URL, path: string, transport: Transport, signal: AbortSignal): Promise<FetchedFile> {
  signal.throwIfAborted();
  const source = await openSource(url, transport, signal);
  const { limits } = transport;
  const hash = createHash('sha256');
  let size = 0;
  async function* measured(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      size += chunk.length;
      if (size > limits.maxBytes) {
        const message = `${shownUrl(url)} has more than ${limits.maxBytes} bytes, the largest size that is accepted`;
        throw new AgentError('ARTIFACT_TOO_LARGE', message);
      }
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(source, measured, createWriteStream(path), { signal });
  return { path, digest: hash.digest('hex'), size };
}

function openSource(url: URL, transport: Transport, signal: AbortSignal): Promise<Readable> {
  if (url.protocol === 'file:') return openFile(url);
  if (url.protocol === 'nats:') return openObject(url, transport.objects, transport.limits.maxBytes, signal);
  return openHttp(url, transport, signal);
}

async function openFile(url: URL): Promise<Readable> {
  const file = await openRegular(localPath(url));
  if (file !== undefined) return file.createReadStream();
  throw new AgentError('ARTIFACT_INVALID', `${shownUrl(url)} is not a regular file`);
}

function localPath(url: URL): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    const message = `${shownUrl(url)} does not name a file on this host: expected file:///<absolute path>`;
    throw new AgentError('INVALID_FIELD', message, { cause });
  }
}

function faultOf(url: URL, error: unknown): AgentError {
  if (error instanceof AgentError) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (url.protocol === 'file:' && (code === 'ENOENT' || code === 'ENOTDIR')) {
    return new AgentError('ARTIFACT_NOT_FOUND', `${shownUrl(url)} does not exist`, { cause: error });
  }
  const options = { cause: error, detail: message, transient: PASSING.has(code) };
  return new AgentError('ARTIFACT_UNREACHABLE', `${shownUrl(url)} cannot be fetched: ${code || message}`, options);
}

function tooSlow(url: URL, limits: FetchLimits, cause: unknown): AgentError {
  const message = `${shownUrl(url)} was not fetched within ${limits.totalMs} ms`;
  return new AgentError('ARTIFACT_UNREACHABLE', message, { cause, transient: true });
}

function stopped(url: URL, cause: unknown): AgentError {
  const message = `The fetch of ${shownUrl(url)} was aborted because the agent is stopping`;
  return new AgentError('ARTIFACT_UNREACHABLE', message, { cause, transient: true });
}
