import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AgentError } from '../errors.js';
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

/** What is given to a copy to end in. */
const LATE_MS = 1000;

/** Faults of the network that may pass (errno(3), getaddrinfo(3)). Anything else, an invalid certificate say, will not. */
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
 * Copies what a URL names to a file, hashing on the way, and tries again after faults that may pass.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE (transient if the same attempt may succeed later), ARTIFACT_TOO_LARGE
 */
export async function fetchFile(url: URL, path: string, transport: Transport): Promise<FetchedFile> {
  const { limits, stop } = transport;
  const timeout = AbortSignal.timeout(limits.totalMs);
  const signal = AbortSignal.any([stop, timeout]);
  for (let attempt = 1; ; attempt++) {
    try {
      return await heeding(signal, copy(url, path, transport, signal));
    } catch (error) {
      if (stop.aborted) throw stopped(url, error);
      if (timeout.aborted) throw tooSlow(url, limits, error);
      const fault = faultOf(url, error);
      if (!fault.transient || attempt >= limits.tries) throw fault;
    }
    // When the time runs out in the pause, the next try ends at once and says so.
    await sleep(limits.backoffMs * 2 ** (attempt - 1), undefined, { signal }).catch(() => {});
  }
}

/** Waits for what heeds a signal by itself. What does not is left behind some time after it: nothing may hold up the agent for ever. */
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
        const message = `${shownUrl(url)} has more than ${limits.maxBytes} bytes, which is what is accepted`;
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
    const message = `${shownUrl(url)} does not name a file of this host: expected file:///<absolute path>`;
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
  const message = `Fetching ${shownUrl(url)} was given up because the agent stops`;
  return new AgentError('ARTIFACT_UNREACHABLE', message, { cause, transient: true });
}
