import { headers as makeHeaders, nuid } from 'nats';
import { HEADERS, STREAMS, type Subjects } from '../messages/subjects.js';
import { pause, retryDelay } from './backoff.js';
import { openBucket } from './bucket.js';
import type { Bus } from './connect.js';
import type { Delivery } from './delivery.js';
import { insist } from './insist.js';
import type { Logger } from './logger.js';
import { inWords, isNoResponders, isTransient } from './nats-errors.js';

export interface PublisherOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  /** The host's token: the key of its snapshot. */
  readonly host: string;
  readonly logger: Logger;
  /** Called, and not waited for, when nobody takes what is published: another server may have come to this address. */
  readonly onStreamMissing?: () => void;
  /** Called for each event that is dropped. */
  readonly onDropped?: () => void;
}

interface Event {
  readonly id: string;
  readonly subject: string;
  readonly body: string;
}

/** Events that wait for a connection; of more than this many, the oldest are dropped. */
const EVENTS_MAX = 1_000;

/** What the agent tells unasked: snapshots, events, metrics, and copies of commands that are passed by. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #stopping = new AbortController();
  readonly #events: Event[] = [];
  #sending: Promise<void> | undefined;
  #dropped = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /**
   * Stores the host's state; only the newest is kept.
   *
   * @throws AgentError BROKER_UNREACHABLE, transient; errors of nats.js, as for a snapshot larger than the server takes
   */
  async snapshot(state: object): Promise<void> {
    const { bus, host } = this.#options;
    const bucket = await openBucket(bus, STREAMS.state);
    await bus.connection.guard(bucket.put(host, JSON.stringify(state)));
  }

  /** Queues an event and returns at once: no event is worth waiting for. */
  event(kind: string, body: object): void {
    const { subjects, logger, onDropped } = this.#options;
    this.#events.push({ id: nuid.next(), subject: subjects.event(kind), body: JSON.stringify(body) });
    if (this.#events.length > EVENTS_MAX) {
      this.#events.shift();
      onDropped?.();
      if (this.#dropped++ === 0)
        logger.warn({ waiting: EVENTS_MAX }, 'Too many events wait for NATS; dropping the oldest');
    }
    this.#sending ??= this.#send();
  }

  /** Publishes without storing; nothing is sent while there is no connection. */
  metrics(body: object): void {
    const { bus, subjects } = this.#options;
    if (bus.connection.connected) bus.nc.publish(subjects.metrics, JSON.stringify(body));
  }

  /**
   * Keeps a copy of a command that is passed by; resolves when it is stored. A repetition is stored once.
   *
   * @throws errors of nats.js that do not pass; AgentError BROKER_UNREACHABLE when stopped meanwhile
   */
  async deadLetter(delivery: Delivery): Promise<void> {
    const { bus, subjects, logger, onStreamMissing } = this.#options;
    const publish = () =>
      bus.js.publish(subjects.deadLetter, delivery.body, {
        msgID: `dead-letter:${delivery.id}`,
        headers: deadLetterHeaders(delivery),
        expect: { streamName: STREAMS.events },
      });
    await insist(bus, () => bus.connection.guard(publish()), {
      signal: this.#stopping.signal,
      onRetry: (error) => {
        const err = inWords(error, STREAMS.events);
        logger.warn({ id: delivery.id, err }, 'Dead letter not stored; trying again');
        if (isNoResponders(error)) onStreamMissing?.();
      },
    });
  }

  /** Sends what waits, if the connection is up, and ends. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#sending;
  }

  get #ended(): boolean {
    return this.#stopping.signal.aborted || this.#options.bus.connection.closed.aborted;
  }

  async #send(): Promise<void> {
    const { bus, logger, onStreamMissing } = this.#options;
    let attempt = 0;
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      try {
        const published = bus.js.publish(event.subject, event.body, { msgID: event.id });
        await bus.connection.guard(published);
        attempt = 0;
        this.#forget(event);
      } catch (error) {
        if (!isTransient(error)) {
          logger.warn({ subject: event.subject, err: error }, 'Event refused; dropping it');
          this.#forget(event);
        }
        if (isNoResponders(error)) onStreamMissing?.();
        if (this.#ended) break;
        await pause(retryDelay(attempt++), this.#stopping.signal);
        await bus.connection.untilConnected(this.#stopping.signal);
      }
    }
    this.#sending = undefined;
    if (this.#dropped > 0) logger.warn({ dropped: this.#dropped }, 'Events were dropped while NATS was away');
    this.#dropped = 0;
  }

  /** It may have been dropped from the full queue meanwhile. */
  #forget(event: Event): void {
    if (this.#events[0] === event) this.#events.shift();
  }
}

function deadLetterHeaders({ id, gen, prevGen, expires }: Delivery) {
  const headers = makeHeaders();
  headers.set(HEADERS.commandId, id);
  if (gen !== undefined) headers.set(HEADERS.gen, gen);
  if (prevGen !== undefined) headers.set(HEADERS.prevGen, prevGen);
  if (expires !== undefined) headers.set(HEADERS.expires, expires);
  return headers;
}
