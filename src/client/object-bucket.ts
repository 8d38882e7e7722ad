import {
  type JetStreamManager,
  type JetStreamManagerOptions,
  type NatsConnection,
  NatsError,
  StorageType,
  type StoredMsg,
} from 'nats';
import { ConnectionWatch } from '../bus/connection.js';
import { inWords, isNoResponders, isTransient } from '../bus/nats-errors.js';
import { type OpenedObject, openStoredObject, readObjectInfo } from '../bus/objects.js';
import { continued } from '../bus/refusals.js';
import { AgentError, messageOf } from '../errors.js';
import { type ConnectOptions, DEFAULT_TIMEOUT_MS, isTooLate, openConnection } from './connection.js';
import { base64Url, type Upload, uploadObject } from './object-upload.js';

export interface StoredEntry {
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /**
   * SHA-256 in lower-case hexadecimal; undefined for a link and for anything that is not an object. Agents refuse
   * those.
   */
  readonly digest: string | undefined;
}

/** A library does not log. */
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** The message size that every server accepts, in bytes. */
const MIN_PAYLOAD = 1024;

/** How many requests are sent in parallel. */
const AT_ONCE = 100;

/**
 * An object store on the bus, for writing. All methods reject with AgentError, BROKER_UNREACHABLE unless they say
 * otherwise.
 */
export class ObjectBucket {
  readonly #nc: NatsConnection;
  readonly #jsm: JetStreamManager;
  readonly #watch: ConnectionWatch;
  readonly #bucket: string;
  readonly #options: JetStreamManagerOptions;

  private constructor(nc: NatsConnection, jsm: JetStreamManager, bucket: string, options: JetStreamManagerOptions) {
    this.#nc = nc;
    this.#jsm = jsm;
    this.#watch = new ConnectionWatch(nc, SILENT);
    this.#bucket = bucket;
    this.#options = options;
  }

  static async connect(options: ConnectOptions, bucket: string): Promise<ObjectBucket> {
    const nc = await openConnection(options);
    const { jsApiPrefix, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const jetstream = {
      timeout: timeoutMs,
      checkAPI: false,
      ...(jsApiPrefix !== undefined && { apiPrefix: jsApiPrefix }),
    };
    const client = new ObjectBucket(nc, await nc.jetstreamManager(jetstream), bucket, jetstream);
    client.#watch.start();
    return client;
  }

  async close(): Promise<void> {
    await this.#nc.close();
  }

  /** The content of the bucket; undefined if there is no such bucket. */
  async list(): Promise<StoredEntry[] | undefined> {
    return this.#exchange(async () => {
      const names = await this.#names();
      if (names === undefined) return undefined;
      const entries: (StoredEntry | undefined)[] = [];
      for (let next = 0; next < names.length; next += AT_ONCE) {
        const some = names.slice(next, next + AT_ONCE);
        entries.push(...(await Promise.all(some.map(async (name) => entryOf(name, await this.#message(name))))));
      }
      return entries.filter((entry) => entry !== undefined);
    });
  }

  /** @returns undefined if there is no such object or no such bucket */
  async find(name: string): Promise<StoredEntry | undefined> {
    return this.#exchange(async () => entryOf(name, await this.#message(name)));
  }

  /**
   * Stores an object. The bucket is created if it is absent. If reading the content fails, nothing of it remains.
   *
   * @param replace whether it may replace an object of that name
   * @returns false if it may not replace an object, but one exists or was created meanwhile
   */
  async put(name: string, upload: Upload, replace: boolean): Promise<boolean> {
    return this.#exchange(async () => {
      await this.#make();
      const before = await this.#message(name);
      if (!replace && entryOf(name, before) !== undefined) return false;
      try {
        await uploadObject(
          {
            js: this.#nc.jetstream(this.#options),
            jsm: this.#jsm,
            bucket: this.#bucket,
            name,
            maxPayload: this.#nc.info?.max_payload ?? MIN_PAYLOAD,
            after: replace ? undefined : (before?.seq ?? 0),
          },
          upload,
        );
      } catch (error) {
        if (isTooLate(error)) return false;
        throw error;
      }
      await this.#removeChunks(before);
      return true;
    });
  }

  /** Opens an object like the agents do; see {@link openStoredObject}. */
  open(name: string, signal: AbortSignal): Promise<OpenedObject | undefined> {
    const jsApiPrefix = this.#options.apiPrefix ?? '$JS.API';
    return openStoredObject({ nc: this.#nc, connection: this.#watch, jsApiPrefix }, this.#bucket, name, signal);
  }

  /** Names are read from the subjects, as agents do, whatever the messages contain. */
  async #names(): Promise<string[] | undefined> {
    const below = `$O.${this.#bucket}.M.`;
    try {
      const { state } = await this.#jsm.streams.info(this.#stream, { subjects_filter: `${below}*` });
      const subjects = Object.keys(state.subjects ?? {});
      return subjects.map((subject) => Buffer.from(subject.slice(below.length), 'base64url').toString());
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async #message(name: string): Promise<StoredMsg | undefined> {
    const subject = `$O.${this.#bucket}.M.${base64Url(name)}`;
    try {
      return await this.#jsm.streams.getMessage(this.#stream, { last_by_subj: subject });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  get #stream(): string {
    return `OBJ_${this.#bucket}`;
  }

  async #make(): Promise<void> {
    await this.#nc.jetstream(this.#options).views.os(this.#bucket, { storage: StorageType.File });
  }

  /** Removes the chunks of an object that was replaced. If it fails, they only take up space. */
  async #removeChunks(before: StoredMsg | undefined): Promise<void> {
    const info = before === undefined ? undefined : readObjectInfo(before.string());
    if (info === undefined || typeof info === 'string') return;
    const filter = `$O.${this.#bucket}.C.${info.nuid}`;
    await this.#jsm.streams.purge(this.#stream, { filter }).catch(() => {});
  }

  #inWords(error: unknown): unknown {
    if (isNoResponders(error))
      return 'nobody answers: JetStream is not enabled, or the stream of that name is not an object store';
    return inWords(error, { stream: this.#stream, maxPayload: this.#nc.info?.max_payload });
  }

  async #exchange<T>(exchange: () => Promise<T>): Promise<T> {
    try {
      return await this.#watch.guard(exchange());
    } catch (error) {
      if (error instanceof AgentError) throw error;
      const known = this.#inWords(error);
      const code = known instanceof AgentError ? known.code : 'BROKER_UNREACHABLE';
      const message = `The object store ${this.#bucket} cannot be used: ${continued(messageOf(known))}`;
      throw new AgentError(code, message, { cause: error, transient: isTransient(error) });
    }
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.code === 404;
}

function entryOf(name: string, message: StoredMsg | undefined): StoredEntry | undefined {
  const info = message === undefined ? undefined : readObjectInfo(message.string());
  if (info === undefined) return undefined;
  if (typeof info === 'string') return { name, size: 0, digest: undefined };
  return { name, size: info.size, digest: hexOf(info.digest) };
}

/** From `SHA-256=<base64url>` (ADR-20 of NATS). */
function hexOf(digest: string): string {
  return Buffer.from(digest.replace(/^SHA-256=/, ''), 'base64url').toString('hex');
}
