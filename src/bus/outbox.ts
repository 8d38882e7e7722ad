import { headers as makeHeaders } from 'nats';
import { AgentError } from '../errors.js';
import { parseAcknowledgement } from '../messages/ack.js';
import { shortened } from '../messages/shorten.js';
import { HEADERS, STREAMS, type Subjects } from '../messages/subjects.js';
import { pause, retryDelay } from './backoff.js';
import type { Bus } from './connect.js';
import type { Unsubscribe } from './connection.js';
import type { Logger } from './logger.js';
import { inWords, isNoResponders, isTooLarge } from './nats-errors.js';

/** One acknowledgement that must reach its stream, exactly once. */
export interface OutboxEntry {
  /** Sent as `Nats-Msg-Id`: by it the stream recognises a repetition. */
  readonly id: string;
  /** Where it was to go when it was made. It goes to where this host's answers go now. */
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
  /** Called, and not waited for, when nobody takes what is published: another server may have come to this address. */
  readonly onStreamMissing?: () => void;
  /** Told of an answer that could not be stored as it was made, since it would hold up all that follow. */
  readonly onAltered?: (what: string, data: Record<string, unknown>) => void;
}

interface Waiter {
  /** Of the entries that it still waits for. */
  readonly ids: Set<string>;
  resolve(): void;
  reject(error: AgentError): void;
}

/**
 * Publishes what waits in the store, in order, each entry until its stream has confirmed it; never a later one before. What the stream
 * would never take as it is, is altered: an answer that was made under another prefix or host id goes where answers go now, and one that
 * is larger than the server takes is shortened.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #stopping = new AbortController();
  readonly #waiters = new Set<Waiter>();
  /** Aborted to end a wait, and then replaced. */
  #wake = new AbortController();
  #unsubscribe: Unsubscribe = () => {};
  #running: Promise<void> = Promise.resolve();
  /** Bodies that had to be shortened, by the id of their entry. */
  readonly #shorter = new Map<string, string>();

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
      } else {
        const outcome = await this.#deliver(entry, attempt);
        if (outcome === 'done') this.#release(entry.id);
        if (outcome !== 'failed') {
          attempt = 0;
          continue;
        }
        await pause(retryDelay(attempt++), wake.signal);
        await bus.connection.untilConnected(signal);
      }
    }
  }

  async #deliver(entry: OutboxEntry, attempt: number): Promise<'done' | 'shortened' | 'failed'> {
    const { bus, subjects, store, logger, onStreamMissing } = this.#options;
    const { id, headers } = entry;
    const messageHeaders = makeHeaders();
    for (const [name, value] of Object.entries(headers)) messageHeaders.set(name, value);
    const body = this.#shorter.get(id) ?? entry.body;
    const options = { msgID: id, headers: messageHeaders, expect: { streamName: STREAMS.acks } };
    try {
      try {
        await bus.connection.guard(bus.js.publish(subjects.ack, body, options));
      } catch (error) {
        if (!isTooLarge(error)) throw error;
        if (this.#shorten(entry, body)) return 'shortened';
        this.#alter('The answer cannot be made as short as NATS wants it, and is dropped', entry);
      }
      await store.confirm(id);
      this.#shorter.delete(id);
      if (entry.subject !== subjects.ack) this.#alter('The answer was made for another subject', entry);
      return 'done';
    } catch (error) {
      if (attempt === 0) {
        const err = inWords(error, STREAMS.acks);
        logger.warn({ id, subject: subjects.ack, err }, 'Not confirmed by its stream; trying on');
      }
      if (isNoResponders(error)) onStreamMissing?.();
      return 'failed';
    }
  }

  /**
   * Halves what the server does not take: there is no telling how much a stream would.
   *
   * @returns false for what cannot be made any shorter
   */
  #shorten(entry: OutboxEntry, refused: string): boolean {
    const answer = parseAcknowledgement(Buffer.from(entry.body));
    const shorter = JSON.stringify(shortened(answer, Buffer.byteLength(refused) / 2));
    if (shorter.length >= refused.length) return false;
    if (refused === entry.body) this.#alter('The answer is larger than NATS takes, and is shortened', entry);
    this.#shorter.set(entry.id, shorter);
    return true;
  }

  #alter(what: string, { id, subject, headers }: OutboxEntry): void {
    const { logger, subjects, onAltered } = this.#options;
    const data = { id, command_id: headers[HEADERS.commandId], made_for: subject, sent_to: subjects.ack };
    logger.error(data, what);
    onAltered?.(what, data);
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
