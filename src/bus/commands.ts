import { type Msg, nanos } from 'nats';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import { readBacklog, readBodies, type Usable } from './backlog.js';
import { pause, retryDelay } from './backoff.js';
import type { Bus } from './connect.js';
import { consumerInfo, ensureConsumer } from './consumer.js';
import type { Backlog, Delivery, Disposition, StreamPosition } from './delivery.js';
import { commandAt } from './direct-get.js';
import { insist } from './insist.js';
import { type Logger, messageOf } from './logger.js';
import { type Origin, originOf, toDelivery } from './message.js';
import { isNotFound } from './nats-errors.js';
import { pullOne } from './pull.js';
import { settle } from './settle.js';

export interface CommandStreamOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  /** The host's token: the name of its consumer. */
  readonly host: string;
  readonly logger: Logger;
  /**
   * Asked whenever consuming is about to go on after the connection, the consumer or the stream was lost: the place to notice a
   * rewind. A number becomes the sequence after which to go on. May throw; it is asked again.
   */
  readonly onResume?: (position: StreamPosition) => Promise<number | undefined>;
  /** Called when the stream is found to be deleted, to make it anew where the agent may. */
  readonly onStreamMissing?: () => Promise<void>;
  readonly ackWaitMs?: number;
  readonly pullExpiresMs?: number;
}

export type Handler = (delivery: Delivery) => Promise<Disposition>;

const ACK_WAIT_MS = 30_000;
/** An idle host costs its server one request in this time; also how long a deleted consumer may go unnoticed. */
const PULL_EXPIRES_MS = 20_000;
const NAK_BACKOFF = { firstMs: 1_000, capMs: 60_000 };

/** The commands of one host: what lies on the stream, and, one at a time and in order, what comes. */
export class CommandStream {
  readonly #options: CommandStreamOptions;
  readonly #stopping = new AbortController();
  #ackWaitMs: number;
  #streamCreated = '';
  /** Everything up to here is handled, whether or not the server has heard of it. */
  #handled = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: CommandStreamOptions) {
    this.#options = options;
    this.#ackWaitMs = options.ackWaitMs ?? ACK_WAIT_MS;
  }

  /** @throws AgentError BROKER_UNREACHABLE, transient, when the connection breaks meanwhile; errors of nats.js */
  async position(): Promise<StreamPosition> {
    const { bus, host } = this.#options;
    const stream = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
    const consumer = await consumerInfo(bus, host);
    return { created: stream.created, lastSeq: stream.state.last_seq, consumerFloor: consumer?.ack_floor.stream_seq };
  }

  /**
   * The command that the stream has at a sequence now. A store that was put back hands out its sequences again: one whose command is
   * not the one that was handled has seen a rewind, also when it has long grown past it.
   *
   * @returns undefined when there is none, or this account may not look
   * @throws as {@link position}
   */
  async at(seq: number): Promise<Delivery | undefined> {
    const { bus } = this.#options;
    const { created } = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
    return commandAt(bus, seq, created);
  }

  /**
   * All of the host's commands past `after`; with nothing known, those from the last deploy on, or without any deploy all. Tries
   * again for as long as the server is away.
   *
   * @param after sequence of the last command answered; null when nothing is known
   * @param usable whether a deploy may stand at the head: one that is refused changes nothing, so what counts lies before it
   */
  async backlog(after: number | null, usable: Usable = () => true): Promise<Backlog> {
    const { bus, subjects, host, logger } = this.#options;
    return insist(bus, () => readBacklog(bus, { subjects, host, after, usable }), {
      signal: this.#stopping.signal,
      onRetry: (error) => logger.warn({ err: error }, 'Could not read the backlog of commands; trying again'),
    });
  }

  /**
   * Hands over what a backlog consists of, in order. Tries again for as long as the server is away, each time from the beginning.
   *
   * @param range sequences of the first and the last command
   * @param begin called at each beginning, for whom to hand the commands to
   */
  async bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void> {
    const { bus, subjects, host, logger } = this.#options;
    await insist(bus, () => readBodies(bus, { subjects, host, range }, begin()), {
      signal: this.#stopping.signal,
      onRetry: (error) => logger.warn({ err: error }, 'Could not read the backlog of commands; trying again'),
    });
  }

  /**
   * Hands over what comes after sequence `after`, one delivery at a time, until {@link stop}. Resolves as soon as the consumer stands.
   * A handler that throws gets the same delivery again, later and later.
   *
   * @throws AgentError STREAM_INCOMPATIBLE when the consumer is made otherwise, or is absent and may not be created
   */
  async consume(after: number, handler: Handler): Promise<void> {
    this.#handled = after;
    const take = async () => {
      const position = await this.position();
      await this.#take(position, { after: Math.min(after, position.lastSeq), skip: true });
    };
    await insist(this.#options.bus, take, {
      signal: this.#stopping.signal,
      onRetry: (error) => this.#options.logger.warn({ err: error }, 'Could not set the consumer up; trying again'),
    });
    this.#running = this.#run(handler);
  }

  /** Finishes the delivery in hand and ends. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  get #ended(): boolean {
    return this.#stopping.signal.aborted || this.#options.bus.connection.closed.aborted;
  }

  async #run(handler: Handler): Promise<void> {
    const { bus, host, logger, pullExpiresMs = PULL_EXPIRES_MS } = this.#options;
    const { signal } = this.#stopping;
    while (!this.#ended) {
      const pulled = await pullOne(bus, { stream: STREAMS.commands, consumer: host, expiresMs: pullExpiresMs, signal });
      if (pulled.kind === 'lost') {
        logger.debug({ reason: pulled.reason }, 'Looking after the consumer');
        await this.#resume();
      } else if (pulled.kind === 'message') {
        const settled = await this.#handle(pulled.message, handler);
        if (!settled) await this.#resume();
      }
    }
  }

  /** @returns false when the consumer has to be looked after: the server did not take the answer, or was away meanwhile */
  async #handle(message: Msg, handler: Handler): Promise<boolean> {
    const { bus, logger } = this.#options;
    const { session } = bus.connection;
    const reply = message.reply ?? '';
    const origin = originOf(reply);
    if (origin === undefined) {
      logger.error({ subject: message.subject, reply }, 'A message that is not from JetStream; passing it by');
      return true;
    }
    const delivery = toDelivery(message, origin, this.#streamCreated);
    const beat = setInterval(() => this.#tell(reply, '+WPI'), this.#ackWaitMs / 3);
    let disposition: Disposition;
    try {
      disposition = await handler(delivery);
    } catch (error) {
      this.#putOff(reply, origin, delivery, error);
      return true;
    } finally {
      clearInterval(beat);
    }
    if (disposition === 'later') {
      this.#tell(reply, '-NAK');
      return true;
    }
    this.#handled = Math.max(this.#handled, origin.seq);
    const verdict = disposition === 'terminate' ? '+TERM' : '+ACK';
    const settled = await settle(bus, reply, verdict, {
      deadlineMs: this.#ackWaitMs,
      signal: this.#stopping.signal,
    });
    if (!settled)
      logger.warn({ id: delivery.id, seq: origin.seq }, 'The server has not confirmed the end of the command');
    // A server that was killed may have forgotten earlier answers, and would then hold up what follows for the acknowledgement wait.
    return settled && !session.aborted;
  }

  #putOff(reply: string, { deliveryCount, seq }: Origin, { id }: Delivery, error: unknown): void {
    const delayMs = Math.round(retryDelay(deliveryCount - 1, NAK_BACKOFF));
    this.#options.logger.error({ id, seq, deliveryCount, delayMs, err: error }, 'The command could not be handled');
    this.#tell(reply, `-NAK ${JSON.stringify({ delay: nanos(delayMs) })}`);
  }

  /** A word to the server that may get lost: at worst the message comes again after the acknowledgement wait. */
  #tell(reply: string, word: string): void {
    if (!this.#options.bus.nc.isClosed()) this.#options.bus.nc.publish(reply, word);
  }

  /** Waits for the connection, looks where the stream is now, and makes sure of the consumer; without end. */
  async #resume(): Promise<void> {
    const { bus, logger, onResume, onStreamMissing } = this.#options;
    const { signal } = this.#stopping;
    let told: string | undefined;
    for (let attempt = 0; !this.#ended; attempt++) {
      try {
        await bus.connection.untilConnected(signal);
        if (this.#ended) return;
        const position = await this.position();
        const rewound = position.created !== this.#streamCreated || position.lastSeq < this.#handled;
        if (rewound) {
          logger.warn({ ...position, handled: this.#handled }, 'The command stream is not where it was');
          this.#handled = 0;
        }
        const after = await onResume?.(position);
        await this.#take(position, { after: after ?? this.#handled, skip: after !== undefined });
        if (attempt > 0) logger.info({ attempts: attempt + 1 }, 'Consuming commands again');
        return;
      } catch (error) {
        const reason = messageOf(error);
        if (reason !== told) logger.warn({ err: error }, 'Cannot consume commands; trying on');
        told = reason;
        if (isNotFound(error)) {
          await onStreamMissing?.().catch((failure: unknown) => {
            logger.warn({ err: failure }, 'The command stream is missing and could not be made anew');
          });
        }
      }
      await pause(retryDelay(attempt), signal);
    }
  }

  async #take(position: StreamPosition, { after, skip }: { after: number; skip: boolean }): Promise<void> {
    const { bus, host, subjects, logger } = this.#options;
    const info = await ensureConsumer(
      bus,
      {
        name: host,
        filter: subjects.commandFilter,
        ackWaitMs: this.#options.ackWaitMs ?? ACK_WAIT_MS,
        after,
        skip,
        lastSeq: position.lastSeq,
      },
      logger,
    );
    this.#streamCreated = position.created;
    this.#ackWaitMs = (info.config.ack_wait ?? nanos(ACK_WAIT_MS)) / 1e6;
    this.#handled = after;
  }
}
