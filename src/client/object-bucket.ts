import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { type JetStreamManager, type NatsConnection, type ObjectStore, StorageType } from 'nats';
import { ConnectionWatch } from '../bus/connection.js';
import { type OpenedObject, openStoredObject } from '../bus/objects.js';
import { AgentError } from '../errors.js';
import { type ConnectOptions, DEFAULT_TIMEOUT_MS, isNobodyThere, openConnection, reasonOf } from './connection.js';

export interface StoredEntry {
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** SHA-256 in lower-case hexadecimal. */
  readonly digest: string;
}

/** A library does not log. */
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** An object store on the bus, for those who fill it. All methods reject with AgentError, BROKER_UNREACHABLE unless they say otherwise. */
export class ObjectBucket {
  readonly #nc: NatsConnection;
  readonly #jsm: JetStreamManager;
  readonly #watch: ConnectionWatch;
  readonly #bucket: string;
  readonly #apiPrefix: string | undefined;

  private constructor(nc: NatsConnection, jsm: JetStreamManager, bucket: string, apiPrefix: string | undefined) {
    this.#nc = nc;
    this.#jsm = jsm;
    this.#watch = new ConnectionWatch(nc, SILENT);
    this.#bucket = bucket;
    this.#apiPrefix = apiPrefix;
  }

  static async connect(options: ConnectOptions, bucket: string): Promise<ObjectBucket> {
    const nc = await openConnection(options);
    const { jsApiPrefix, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const jetstream = {
      timeout: timeoutMs,
      checkAPI: false,
      ...(jsApiPrefix !== undefined && { apiPrefix: jsApiPrefix }),
    };
    const client = new ObjectBucket(nc, await nc.jetstreamManager(jetstream), bucket, jsApiPrefix);
    client.#watch.start();
    return client;
  }

  async close(): Promise<void> {
    await this.#nc.close();
  }

  /** What the bucket holds; undefined where there is no such bucket. */
  async list(): Promise<StoredEntry[] | undefined> {
    return this.#exchange(async () => {
      try {
        await this.#jsm.streams.info(`OBJ_${this.#bucket}`);
      } catch (error) {
        if (isNobodyThere(error)) return undefined;
        throw error;
      }
      const objects = await (await this.#store()).list();
      return objects.map(({ name, size, digest }) => ({ name, size, digest: hexOf(digest) }));
    });
  }

  /**
   * Stores a file, in place of an older object of that name. The bucket is made if it is absent.
   *
   * @param onProgress told how many bytes more have been read
   */
  async put(name: string, path: string, onProgress: (bytes: number) => void): Promise<void> {
    await this.#exchange(async () => {
      const store = await this.#store();
      await store.put({ name }, webStream(createReadStream(path), onProgress));
    });
  }

  /** As the agents read it; see {@link openStoredObject}. */
  open(name: string, signal: AbortSignal): Promise<OpenedObject | undefined> {
    const jsApiPrefix = this.#apiPrefix ?? '$JS.API';
    return openStoredObject({ nc: this.#nc, connection: this.#watch, jsApiPrefix }, this.#bucket, name, signal);
  }

  #store(): Promise<ObjectStore> {
    const options = this.#apiPrefix === undefined ? {} : { apiPrefix: this.#apiPrefix };
    return this.#nc.jetstream(options).views.os(this.#bucket, { storage: StorageType.File });
  }

  async #exchange<T>(exchange: () => Promise<T>): Promise<T> {
    try {
      return await this.#watch.guard(exchange());
    } catch (error) {
      if (error instanceof AgentError) throw error;
      const message = `The object store ${this.#bucket} cannot be used: ${reasonOf(error)}`;
      throw new AgentError('BROKER_UNREACHABLE', message, { cause: error, transient: true });
    }
  }
}

function webStream(source: Readable, onProgress: (bytes: number) => void): ReadableStream<Uint8Array> {
  source.on('data', (chunk: Buffer) => onProgress(chunk.length));
  source.pause();
  return Readable.toWeb(source) as ReadableStream<Uint8Array>;
}

/** From `SHA-256=<base64url>` (ADR-20 of NATS). */
function hexOf(digest: string): string {
  return Buffer.from(digest.replace(/^SHA-256=/, ''), 'base64url').toString('hex');
}
