import { headers as makeHeaders } from 'nats';
import { AgentError, messageOf } from '../errors.js';
import { parseAcknowledgement } from '../messages/ack.js';
import { shortened } from '../messages/shorten.js';
import { HEADERS, STREAMS, type Subjects } from '../messages/subjects.js';
import { pause, pauseAfter } from '../retry.js';
import type { Bus } from './connect.js';
import type { Unsubscribe } from './connection.js';
import { EXCHANGE_BACKOFF } from './insist.js';
import type { BusLogger } from './logger.js';
import { inWords, isNoResponders, isTooLarge } from './nats-errors.js';

/** One acknowledgement that must reach its stream exactly once. */
export interface OutboxEntry {
  /** Sent as `Nats-Msg-Id`, by which the stream recognises a repetition. */
  readonly id: string;
  /** The subject when it was created. It is published on the subject that this host's answers have now. */
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Where entries wait, on disk. */
export interface OutboxStore {
  /** In the order in which they are to be published. */
  pending(): readonly OutboxEntry[];
  /** Removes an entry durably. */
  confirm(id: string): Promise<void>;
}

export interface OutboxOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly store: OutboxStore;
  readonly logger: BusLogger;
  /** Called, but not awaited, when no stream takes what is published: another server may now be at this address. */
  readonly onStreamMissing?: () => void;
  /** Called when an answer could not be stored unchanged. It would block all that follow. */
  readonly onAltered?: (what: string, data: Record<string, unknown>) => void;
}

interface Waiter {
  /** Ids of the entries that it still waits for. */
  readonly ids: Set<string>;
  resolve(): void;
  reject(error: AgentError): void;
}

/**
 * Publishes the entries of the store in order. It repeats each entry until its stream has confirmed it, and never
 * publishes a later one before. An entry that the stream would never accept is changed: an answer made under another
 * prefix or host id goes to the current subject, and an answer that is too large for the server is shortened.
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

  /** Ends after the current exchange. The rest stays in the store for the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    this.notify();
    await this.#running;
    for (const waiter of this.#waiters) waiter.reject(stopped());
    this.#waiters.clear();
  }

  /** Call it after something was added to the store. */
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
    let failures = 0;
    while (!signal.aborted && !bus.connection.closed.aborted) {
      // Renewed before the store is read: what is added after that ends the next wait.
      const wake = new AbortController();
      this.#wake = wake;
      const [entry] = store.pending();
      if (entry === undefined) {
        await untilAborted(wake.signal);
      } else {
        const outcome = await this.#deliver(entry, failures === 0);
        if (outcome === 'done') this.#release(entry.id);
        if (outcome !== 'failed') {
          failures = 0;
          continue;
        }
        failures += 1;
        await pause(pauseAfter(failures, EXCHANGE_BACKOFF), wake.signal);
        await bus.connection.untilConnected(signal);
      }
    }
  }

  async #deliver(entry: OutboxEntry, isFirstTry: boolean): Promise<'done' | 'shortened' | 'failed'> {
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
        this.#alter('The answer cannot be made short enough for NATS, and is dropped', entry);
      }
      bus.troubles.end('storing', STREAMS.acks);
      await store.confirm(id);
      this.#shorter.delete(id);
      if (entry.subject !== subjects.ack)
        this.#alter('The answer was made for another subject, and goes to the current one', entry);
      return 'done';
    } catch (error) {
      const err = inWords(error, { stream: STREAMS.acks });
      if (bus.connection.connected) bus.troubles.begin('storing', STREAMS.acks, messageOf(err));
      if (isFirstTry) {
        logger.warn({ id, subject: subjects.ack, err }, 'an answer was not confirmed by its stream; trying again');
      }
      if (isNoResponders(error)) onStreamMissing?.();
      return 'failed';
    }
  }

  /**
   * Halves what the server does not accept, because nothing says how much a stream would accept.
   *
   * @returns false if it cannot be made any shorter
   */
  #shorten(entry: OutboxEntry, refused: string): boolean {
    const answer = parseAcknowledgement(Buffer.from(entry.body));
    const shorter = JSON.stringify(shortened(answer, Buffer.byteLength(refused) / 2));
    if (shorter.length >= refused.length) return false;
    if (refused === entry.body) this.#alter('The answer is larger than NATS allows, and is shortened', entry);
    this.#shorter.set(entry.id, shorter);
    return true;
  }

  #alter(what: string, { id, subject, headers }: OutboxEntry): void {
    const { logger, subjects, onAltered } = this.#options;
    const data = { id, command_id: headers[HEADERS.commandId], made_for: subject, sent_to: subjects.ack };
    logger.error({ ...data, reason: what }, 'an answer could not be stored unchanged');
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
  const message = 'The outbox was stopped before the stream confirmed all answers';
  return new AgentError('BROKER_UNREACHABLE', message, { transient: true });
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
