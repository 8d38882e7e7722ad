import { headers as makeHeaders, nuid } from 'nats';
import { messageOf } from '../errors.js';
import { HEADERS, STREAMS, type Subjects } from '../messages/subjects.js';
import { pause, pauseAfter } from '../retry.js';
import { openBucket } from './bucket.js';
import type { Bus } from './connect.js';
import type { Delivery } from './delivery.js';
import { EXCHANGE_BACKOFF, insist } from './insist.js';
import type { BusLogger } from './logger.js';
import { inWords, isNoResponders, isTransient } from './nats-errors.js';
import { refusalOf } from './refusals.js';

export interface PublisherOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  /** The host's token: the key of its snapshot. */
  readonly host: string;
  readonly logger: BusLogger;
  /** Called, but not awaited, when no stream takes what is published: another server may now be at this address. */
  readonly onStreamMissing?: () => void;
  /** Called for each event that is dropped. */
  readonly onDropped?: () => void;
}

interface Event {
  readonly id: string;
  readonly subject: string;
  readonly body: string;
}

/** The trouble of metrics that the server does not take. */
const METRICS = 'metrics';

/** How many events may wait for a connection. Beyond this, the oldest are dropped. */
const EVENTS_MAX = 1_000;

/**
 * What the agent publishes without a request: snapshots, events, metrics, and copies of rejected commands (dead
 * letters).
 */
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
   * Stores the host's state. The server keeps only the newest one.
   *
   * @throws AgentError BROKER_UNREACHABLE, transient; BROKER_REFUSED, as for a snapshot that is too large for the server
   */
  async snapshot(state: object): Promise<void> {
    const { bus, host } = this.#options;
    const bucket = await openBucket(bus, STREAMS.state);
    try {
      await bus.connection.guard(bucket.put(host, JSON.stringify(state)));
      bus.troubles.end('storing', STREAMS.state);
    } catch (error) {
      throw this.#reported(error, STREAMS.state, 'The snapshot of the host cannot be stored. ');
    }
  }

  /** Queues an event and returns at once, so that nothing waits for an event. */
  event(kind: string, body: object): void {
    const { subjects, logger, onDropped } = this.#options;
    this.#events.push({ id: nuid.next(), subject: subjects.event(kind), body: JSON.stringify(body) });
    if (this.#events.length > EVENTS_MAX) {
      this.#events.shift();
      onDropped?.();
      if (this.#dropped++ === 0)
        logger.warn({ waiting: EVENTS_MAX }, 'too many events wait for NATS; dropping the oldest');
    }
    this.#sending ??= this.#send();
  }

  /** Publishes without storing. Sends nothing while there is no connection, and nothing that is too large for the server. */
  metrics(body: object): void {
    const { bus, subjects, logger } = this.#options;
    const { connection, nc, troubles } = bus;
    if (!connection.connected) return;
    try {
      nc.publish(subjects.metrics, JSON.stringify(body));
      troubles.end('publishing', METRICS);
    } catch (error) {
      const err = refusalOf(error, { maxPayload: nc.info?.max_payload });
      if (err === undefined) throw error;
      if (troubles.begin('publishing', METRICS, `The metrics cannot be published. ${err.message}`))
        logger.warn({ err }, 'could not publish the metrics');
    }
  }

  /**
   * Stores a copy of a rejected command in the dead letters. Resolves when it is stored. A repeated copy is stored
   * once.
   *
   * @throws permanent errors of nats.js; AgentError BROKER_UNREACHABLE when stopped meanwhile
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
        const err = this.#reported(error, STREAMS.events);
        logger.warn({ op: delivery.id, err }, 'could not store the dead letter; trying again');
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
    let failures = 0;
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      try {
        const published = bus.js.publish(event.subject, event.body, { msgID: event.id });
        await bus.connection.guard(published);
        failures = 0;
        bus.troubles.end('storing', STREAMS.events);
        this.#forget(event);
      } catch (error) {
        const err = this.#reported(error, STREAMS.events);
        if (!isTransient(error)) {
          logger.warn({ subject: event.subject, err }, 'the server refused an event; dropping it');
          this.#forget(event);
        }
        if (isNoResponders(error)) onStreamMissing?.();
        if (this.#ended) break;
        failures += 1;
        await pause(pauseAfter(failures, EXCHANGE_BACKOFF), this.#stopping.signal);
        await bus.connection.untilConnected(this.#stopping.signal);
      }
    }
    this.#sending = undefined;
    if (this.#dropped > 0) logger.warn({ dropped: this.#dropped }, 'events were dropped while NATS was away');
    this.#dropped = 0;
  }

  /** @param what a sentence before the reason. @returns the error in words */
  #reported(error: unknown, stream: string, what = ''): unknown {
    const { nc, connection, troubles } = this.#options.bus;
    const words = inWords(error, { stream, maxPayload: nc.info?.max_payload });
    if (connection.connected) troubles.begin('storing', stream, `${what}${messageOf(words)}`);
    return words;
  }

  /** The event may have been dropped from the full queue meanwhile. */
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
