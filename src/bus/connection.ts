import { setMaxListeners } from 'node:events';
import { Events, type NatsConnection } from 'nats';
import { AgentError } from '../errors.js';
import type { BusLogger } from './logger.js';

export type Unsubscribe = () => void;

/** The server has refused to take or to deliver messages on a subject. */
export interface Denial {
  /** `publish` or `subscription` */
  readonly operation: string;
  readonly subject: string;
}

/**
 * Knows whether a connection is up, logs each change once, and notifies its listeners. nats.js reconnects by itself,
 * but it drops what was published meanwhile and lets requests run into their time-outs. Whatever must not get lost has
 * to check here.
 */
export class ConnectionWatch {
  readonly #nc: NatsConnection;
  readonly #logger: BusLogger;
  readonly #onConnected = new Set<() => void>();
  readonly #onDisconnected = new Set<() => void>();
  readonly #onDenied = new Set<(denial: Denial) => void>();
  #session = unlimitedListeners(new AbortController());
  readonly #closed = unlimitedListeners(new AbortController());
  #downSince: number | undefined;

  constructor(nc: NatsConnection, logger: BusLogger) {
    this.#nc = nc;
    this.#logger = logger;
  }

  /** Begins to follow the connection. Ends by itself when the connection is closed. */
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

  /** Aborted when the current connection breaks. Already aborted when there is no connection. */
  get session(): AbortSignal {
    return this.#session.signal;
  }

  /** Calls back each time the connection is up again after it broke. */
  onReconnect(callback: () => void): Unsubscribe {
    this.#onConnected.add(callback);
    return () => this.#onConnected.delete(callback);
  }

  onDisconnect(callback: () => void): Unsubscribe {
    this.#onDisconnected.add(callback);
    return () => this.#onDisconnected.delete(callback);
  }

  /** Calls back each time the server refuses a subject. Who has published without a request learns it only here. */
  onDenied(callback: (denial: Denial) => void): Unsubscribe {
    this.#onDenied.add(callback);
    return () => this.#onDenied.delete(callback);
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
   * The result of an exchange. Rejects as soon as the connection breaks during the exchange.
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
            { reason: status.data, subject: status.permissionContext?.subject },
            'NATS reports an error',
          );
          if (status.permissionContext) this.#tell(this.#onDenied, status.permissionContext);
          break;
        case Events.LDM:
          this.#logger.info({ server: status.data }, 'NATS server enters lame duck mode');
          break;
      }
    }
  }

  /** Runs separately, because nats.js does not end its status iterators with the connection. */
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
    this.#logger.info({ server, duration_ms: Math.round(this.downMs) }, 'NATS connection restored');
    this.#downSince = undefined;
    this.#session = unlimitedListeners(new AbortController());
    this.#tell(this.#onConnected);
  }

  #tell<T extends readonly unknown[]>(callbacks: ReadonlySet<(...values: T) => void>, ...values: T): void {
    for (const callback of [...callbacks]) {
      try {
        callback(...values);
      } catch (error) {
        this.#logger.error({ err: error }, 'a listener of the connection failed');
      }
    }
  }
}

function connectionLost(): AgentError {
  return new AgentError('BROKER_UNREACHABLE', 'The connection to NATS was lost', { transient: true });
}

/** One signal serves every exchange of a session. By default Node reports more than ten listeners as a leak. */
function unlimitedListeners(controller: AbortController): AbortController {
  setMaxListeners(0, controller.signal);
  return controller;
}
