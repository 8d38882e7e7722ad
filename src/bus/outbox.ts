import { headers as makeHeaders } from 'nats';
import { AgentError } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import { pause, retryDelay } from './backoff.js';
import type { Bus } from './connect.js';
import type { Unsubscribe } from './connection.js';
import type { Logger } from './logger.js';

/** One message that must reach its stream, exactly once. */
export interface OutboxEntry {
  /** Sent as `Nats-Msg-Id`: by it the stream recognises a repetition. */
  readonly id: string;
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Where entries wait, on disk. */
export interface OutboxStore {
  /** In the order in which they are to be published. */
  pending(): readonly OutboxEntry[];
  /** Forgets an entry, durably. */
  confirm(id: string): Promise<void>;
}

export interface OutboxOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly store: OutboxStore;
  readonly logger: Logger;
}

interface Waiter {
  /** Of the entries that it still waits for. */
  readonly ids: Set<string>;
  resolve(): void;
  reject(error: AgentError): void;
}

/** Publishes what waits in the store, in order, each entry until its stream has confirmed it; never a later one before. */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #stopping = new AbortController();
  readonly #waiters = new Set<Waiter>();
  /** Aborted to end a wait, and then replaced. */
  #wake = new AbortController();
  #unsubscribe: Unsubscribe = () => {};
  #running: Promise<void> = Promise.resolve();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unsubscribe = this.#options.bus.connection.onReconnect(() => this.notify());
    this.#running = this.#run();
  }

  /** Ends after the exchange in hand. What is left waits in the store for the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    this.notify();
    await this.#running;
    for (const waiter of this.#waiters) waiter.reject(stopped());
    this.#waiters.clear();
  }

  /** To be called after something was added to the store. */
  notify(): void {
    this.#wake.abort();
  }

  /**
   * Resolves when everything that waits now is confirmed.
   *
   * @throws AgentError BROKER_UNREACHABLE, transient, when the outbox is stopped before
   */
  flush(): Promise<void> {
    const ids = new Set(this.#options.store.pending().map(({ id }) => id));
    if (ids.size === 0) return Promise.resolve();
    if (this.#stopping.signal.aborted) return Promise.reject(stopped());
    return new Promise((resolve, reject) => {
      this.#waiters.add({ ids, resolve, reject });
      this.notify();
    });
  }

  async #run(): Promise<void> {
    const { bus, store } = this.#options;
    const { signal } = this.#stopping;
    let attempt = 0;
    while (!signal.aborted && !bus.connection.closed.aborted) {
      // Renewed before looking: what is added after the look ends the wait that follows it.
      const wake = new AbortController();
      this.#wake = wake;
      const [entry] = store.pending();
      if (entry === undefined) {
        await untilAborted(wake.signal);
      } else if (await this.#deliver(entry, attempt)) {
        attempt = 0;
        this.#release(entry.id);
      } else {
        await pause(retryDelay(attempt++), wake.signal);
        await bus.connection.untilConnected(signal);
      }
    }
  }

  async #deliver({ id, subject, headers, body }: OutboxEntry, attempt: number): Promise<boolean> {
    const { bus, subjects, store, logger } = this.#options;
    const streamName = subject === subjects.ack ? STREAMS.acks : STREAMS.events;
    const messageHeaders = makeHeaders();
    for (const [name, value] of Object.entries(headers)) messageHeaders.set(name, value);
    try {
      await bus.connection.guard(
        bus.js.publish(subject, body, { msgID: id, headers: messageHeaders, expect: { streamName } }),
      );
      await store.confirm(id);
      return true;
    } catch (error) {
      if (attempt === 0) logger.warn({ id, subject, err: error }, 'Not confirmed by its stream; trying on');
      return false;
    }
  }

  #release(id: string): void {
    for (const waiter of [...this.#waiters]) {
      waiter.ids.delete(id);
      if (waiter.ids.size > 0) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }
}

function stopped(): AgentError {
  const message = 'The outbox was stopped before the stream had confirmed';
  return new AgentError('BROKER_UNREACHABLE', message, { transient: true });
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
