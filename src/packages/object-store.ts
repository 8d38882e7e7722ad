import { Readable } from 'node:stream';
import { AgentError } from '../errors.js';
import { shownUrl } from './location.js';

/** The object stores on NATS. Implemented in `bus/` and passed in. */
export interface ObjectStores {
  /**
   * @param signal aborts the reading
   * @returns undefined if there is no such bucket or object
   * @throws AgentError ARTIFACT_UNREACHABLE, transient while NATS cannot be reached; reading the content throws it too
   */
  open(bucket: string, name: string, signal: AbortSignal): Promise<StoredObject | undefined>;
}

export interface StoredObject {
  /** In bytes. */
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/** The bucket for `nats://` without a bucket name. */
const DEFAULT_BUCKET = 'L3AF_PACKAGES';

/** The bucket that a `nats://<bucket>/…` URL names. */
export function bucketOf(url: URL): string {
  return url.hostname === '' ? DEFAULT_BUCKET : url.hostname;
}

/** The object's name: the path, `<name>/<version>/<platform>/<artifact>`. */
function objectNameOf(url: URL): string {
  return decodeURIComponent(url.pathname.replace(/^\/+/, ''));
}

/** @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE */
export async function openObject(
  url: URL,
  stores: ObjectStores | undefined,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Readable> {
  if (stores === undefined) {
    throw new AgentError('ARTIFACT_UNREACHABLE', `${shownUrl(url)} cannot be fetched without a connection to NATS`);
  }
  const object = await stores.open(bucketOf(url), objectNameOf(url), signal);
  if (object === undefined) throw new AgentError('ARTIFACT_NOT_FOUND', `${shownUrl(url)} does not exist`);
  if (object.size <= maxBytes) return Readable.from(object.content);
  const message = `${shownUrl(url)} has ${object.size} bytes; at most ${maxBytes} are accepted`;
  throw new AgentError('ARTIFACT_TOO_LARGE', message);
}
