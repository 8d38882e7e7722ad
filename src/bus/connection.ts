import { setMaxListeners } from 'node:events';
import { Events, type NatsConnection } from 'nats';
import { AgentError } from '../errors.js';
import type { Logger } from './logger.js';

export type Unsubscribe = () => void;

/**
 * Knows whether a connection is up, logs each change once, and tells those who asked. nats.js reconnects by itself, but it throws
 * away what was published meanwhile and leaves requests to run into their time-outs: whatever must not get lost asks here.
 */
export class ConnectionWatch {
  readonly #nc: NatsConnection;
  readonly #logger: Logger;
  readonly #onConnected = new Set<() => void>();
  readonly #onDisconnected = new Set<() => void>();
  #session = unlimitedListeners(new AbortController());
  readonly #closed = unlimitedListeners(new AbortController());
  #downSince: number | undefined;

  constructor(nc: NatsConnection, logger: Logger) {
    this.#nc = nc;
    this.#logger = logger;
  }

  /** Begins to follow the connection; ends by itself when the connection is closed. */
  start(): void {
    void this.#follow();
    void this.#awaitEnd();
  }

  get connected(): boolean {
    return !this.#session.signal.aborted;
  }

  /** Milliseconds since the connection broke; 0 while it is up. */
  get downMs(): number {
    return this.#downSince === undefined ? 0 : performance.now() - this.#downSince;
  }

  /** Aborted when the connection that is up now breaks; aborted already when none is up. */
  get session(): AbortSignal {
    return this.#session.signal;
  }

  /** Calls back after every connection that follows a broken one. */
  onReconnect(callback: () => void): Unsubscribe {
    this.#onConnected.add(callback);
    return () => this.#onConnected.delete(callback);
  }

  onDisconnect(callback: () => void): Unsubscribe {
    this.#onDisconnected.add(callback);
    return () => this.#onDisconnected.delete(callback);
  }

  /** Aborted when the connection is closed for good. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Resolves once the connection is up, the signal is aborted, or the connection is closed for good. */
  async untilConnected(signal: AbortSignal): Promise<void> {
    if (this.connected || signal.aborted || this.closed.aborted) return;
    await new Promise<void>((resolve) => {
      const settle = () => {
        forget();
        signal.removeEventListener('abort', settle);
        this.closed.removeEventListener('abort', settle);
        resolve();
      };
      const forget = this.onReconnect(settle);
      signal.addEventListener('abort', settle);
      this.closed.addEventListener('abort', settle);
    });
  }

  /**
   * The outcome of an exchange, or a rejection as soon as the connection breaks under it.
   *
   * @throws AgentError BROKER_UNREACHABLE, transient
   */
  async guard<T>(exchange: Promise<T>): Promise<T> {
    const session = this.session;
    let breakOff = () => {};
    const broken = new Promise<never>((_, reject) => {
      breakOff = () => reject(connectionLost());
    });
    if (session.aborted) breakOff();
    session.addEventListener('abort', breakOff, { once: true });
    try {
      return await Promise.race([exchange, broken]);
    } finally {
      session.removeEventListener('abort', breakOff);
    }
  }

  async #follow(): Promise<void> {
    for await (const status of this.#nc.status()) {
      switch (status.type) {
        case Events.Disconnect:
          this.#goDown(String(status.data));
          break;
        case Events.Reconnect:
          this.#comeUp(String(status.data));
          break;
        case Events.Error:
          this.#logger.warn(
            { error: status.data, subject: status.permissionContext?.subject },
            'NATS reports an error',
          );
          break;
        case Events.LDM:
          this.#logger.info({ server: status.data }, 'NATS server goes into lame duck mode');
          break;
      }
    }
  }

  /** By itself: nats.js does not end its status iterators with the connection. */
  async #awaitEnd(): Promise<void> {
    const reason = await this.#nc.closed();
    this.#session.abort();
    this.#closed.abort();
    if (reason instanceof Error) this.#logger.error({ err: reason }, 'NATS connection closed for good');
  }

  #goDown(server: string): void {
    if (!this.connected) return;
    this.#downSince = performance.now();
    this.#session.abort();
    this.#logger.warn({ server }, 'NATS connection lost; reconnecting');
    this.#tell(this.#onDisconnected);
  }

  #comeUp(server: string): void {
    if (this.connected) return;
    this.#logger.info({ server, downMs: Math.round(this.downMs) }, 'NATS connection restored');
    this.#downSince = undefined;
    this.#session = unlimitedListeners(new AbortController());
    this.#tell(this.#onConnected);
  }

  #tell(callbacks: ReadonlySet<() => void>): void {
    for (const callback of [...callbacks]) {
      try {
        callback();
      } catch (error) {
        this.#logger.error({ err: error }, 'A listener to the connection failed');
      }
    }
  }
}

function connectionLost(): AgentError {
  return new AgentError('BROKER_UNREACHABLE', 'The connection to NATS was lost', { transient: true });
}

/** One signal serves every exchange of a session; Node takes more than ten listeners for a leak unless told. */
function unlimitedListeners(controller: AbortController): AbortController {
  setMaxListeners(0, controller.signal);
  return controller;
}
