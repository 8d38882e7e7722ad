import { type Msg, nanos } from 'nats';
import { messageOf } from '../errors.js';
import { STREAMS, type Subjects } from '../messages/subjects.js';
import { pauseAfter, retry } from '../retry.js';
import { readBacklog, readBodies, type Usable } from './backlog.js';
import type { Bus } from './connect.js';
import { consumerInfo, ensureConsumer } from './consumer.js';
import type { Backlog, Delivery, Disposition, StreamPosition } from './delivery.js';
import { commandAt } from './direct-get.js';
import { EXCHANGE_BACKOFF, insist, isCurable } from './insist.js';
import type { BusLogger } from './logger.js';
import { type Origin, originOf, toDelivery } from './message.js';
import { inWords, isNoResponders, isNotFound } from './nats-errors.js';
import { type Pulled, pull } from './pull.js';
import { continued } from './refusals.js';
import { type FinalAck, settle } from './settle.js';

export interface CommandStreamOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  /** The host's token: the name of its consumer. */
  readonly host: string;
  readonly logger: BusLogger;
  /** Called when the stream is found to be deleted, to create it again where the agent may. */
  readonly onStreamMissing?: () => Promise<void>;
  readonly ackWaitMs?: number;
  readonly pullExpiresMs?: number;
}

export type Handler = (delivery: Delivery) => Promise<Disposition>;

/**
 * Called before consuming continues after the connection, the consumer or the stream was lost. This is the place to
 * detect a rewind. A returned number is the sequence after which to continue. If it throws, it is called again.
 */
export type OnResume = (position: StreamPosition) => Promise<number | undefined>;

const ACK_WAIT_MS = 30_000;
/**
 * An idle host costs its server two requests in this time. A consumer that was deleted or paused, or that has no leader,
 * is noticed after this time and a little more: within 15 seconds it has to be seen outside.
 */
const PULL_EXPIRES_MS = 6_000;
/** How long a consumer may take to confirm an acknowledgement until it counts as one that does not answer. */
const UNCONFIRMED_MS = 8_000;
const UNCONFIRMED = `the consumer on ${STREAMS.commands} does not confirm acknowledgements: it may have no leader`;
/** After a failure, so that it is soon known whether it is over. */
const TRIAL_EXPIRES_MS = 1_000;
const NAK_BACKOFF = { firstMs: 1_000, capMs: 60_000, isSpread: true };

/** An acknowledgement that the server is to confirm. */
interface Settling {
  /** Whether the server has taken it and was not away meanwhile. */
  readonly confirmed: Promise<boolean>;
  /** Call it when something else has proven that the server has taken it: it is not repeated any more. */
  prove(): void;
}

const SETTLED: Settling = { confirmed: Promise.resolve(true), prove: () => {} };

/** The commands of one host: first the backlog on the stream, then new commands, one at a time and in order. */
export class CommandStream {
  readonly #options: CommandStreamOptions;
  readonly #stopping = new AbortController();
  #ackWaitMs: number;
  #streamCreated = '';
  /** Everything up to here is handled, even if the server does not know it yet. */
  #handled = 0;
  /** On how many servers the stream is. */
  #replicas = 1;
  #running: Promise<void> = Promise.resolve();

  constructor(options: CommandStreamOptions) {
    this.#options = options;
    this.#ackWaitMs = options.ackWaitMs ?? ACK_WAIT_MS;
  }

  /** @throws AgentError BROKER_UNREACHABLE, transient, when the connection breaks meanwhile; errors of nats.js */
  async position(): Promise<StreamPosition> {
    const { bus, host } = this.#options;
    const stream = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
    this.#replicas = stream.config.num_replicas;
    const consumer = await consumerInfo(bus, host);
    return { created: stream.created, lastSeq: stream.state.last_seq, consumerFloor: consumer?.ack_floor.stream_seq };
  }

  /**
   * The command that the stream now has at a sequence. A restored store assigns its sequences again. If the command is
   * not the one that was handled, there was a rewind, even if the stream has long grown past it.
   *
   * @returns undefined when there is none, or this account may not read it
   * @throws as {@link position}
   */
  async at(seq: number): Promise<Delivery | undefined> {
    const { bus } = this.#options;
    const { created } = await bus.connection.guard(bus.jsm.streams.info(STREAMS.commands));
    return commandAt(bus, seq, created);
  }

  /**
   * All of the host's commands past `after`. If `after` is null: from the last usable deploy on, or all if there is no
   * deploy. Retries while the server is away.
   *
   * @param after sequence of the last command answered; null when nothing is known
   * @param usable whether a deploy may be the first command; a refused deploy changes nothing, so the commands before
   *   it count
   */
  async backlog(after: number | null, usable: Usable = () => true): Promise<Backlog> {
    const { bus, subjects, host, logger } = this.#options;
    return insist(bus, () => readBacklog(bus, { subjects, host, after, usable }), {
      signal: this.#stopping.signal,
      onRetry: (error) => logger.warn({ err: error }, 'could not read the backlog of commands; trying again'),
    });
  }

  /**
   * Passes on the commands of a backlog with their bodies, in order. Retries while the server is away, each time from
   * the beginning.
   *
   * @param range sequences of the first and the last command
   * @param begin called at the start of each attempt; returns the function that takes the commands
   */
  async bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void> {
    const { bus, subjects, host, logger } = this.#options;
    await insist(bus, () => readBodies(bus, { subjects, host, range }, begin()), {
      signal: this.#stopping.signal,
      onRetry: (error) => logger.warn({ err: error }, 'could not read the backlog of commands; trying again'),
    });
  }

  /**
   * Delivers what comes after sequence `after`, one delivery at a time, until {@link stop}. Resolves as soon as the
   * consumer exists. If a handler throws, it gets the same delivery again, after longer and longer pauses.
   *
   * @throws AgentError STREAM_INCOMPATIBLE when the consumer has other settings, or is absent and may not be created
   */
  async consume(after: number, handler: Handler, onResume: OnResume = async () => undefined): Promise<void> {
    this.#handled = after;
    const take = async () => {
      const position = await this.position();
      await this.#take(position, { after: Math.min(after, position.lastSeq), skip: true });
    };
    await insist(this.#options.bus, take, {
      signal: this.#stopping.signal,
      passes: isCurable,
      onRetry: (error) =>
        this.#options.logger.warn({ err: this.#reported(error) }, 'could not set up the consumer; trying again'),
    });
    this.#options.bus.troubles.end('consuming', STREAMS.commands);
    this.#running = this.#run(handler, onResume);
  }

  /** Finishes the current delivery and ends. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  get #ended(): boolean {
    return this.#stopping.signal.aborted || this.#options.bus.connection.closed.aborted;
  }

  async #run(handler: Handler, onResume: OnResume): Promise<void> {
    const { bus, logger, pullExpiresMs = PULL_EXPIRES_MS } = this.#options;
    let isTrial = true;
    let settling: Settling = SETTLED;
    while (!this.#ended) {
      const expiresMs = isTrial ? Math.min(TRIAL_EXPIRES_MS, pullExpiresMs) : pullExpiresMs;
      const pulled = await this.#next(expiresMs, settling);
      isTrial = pulled !== 'unsettled' && 'reason' in pulled;
      if (pulled === 'unsettled') {
        await this.#resume(onResume);
      } else if ('reason' in pulled) {
        logger.debug({ reason: pulled.reason }, 'checking the consumer');
        if (pulled.kind !== 'lost') this.#reported(pulled.reason);
        await this.#resume(onResume);
      } else if (pulled.kind === 'nothing') {
        await this.#look();
      } else {
        bus.troubles.end('consuming', STREAMS.commands);
        settling = await this.#handle(pulled.messages[0]!, handler);
        continue;
      }
      settling = SETTLED;
    }
    await settling.confirmed;
  }

  /**
   * Asks for the next message while the acknowledgement of the last one is being confirmed. With one message pending at
   * most, the server sends the next one only after it has taken the acknowledgement.
   *
   * @returns `unsettled` when the consumer must be checked, because the server has not taken the acknowledgement
   */
  async #next(expiresMs: number, settling: Settling): Promise<Pulled | 'unsettled'> {
    const { bus, host } = this.#options;
    const { signal } = this.#stopping;
    const withdrawing = new AbortController();
    const withdraw = () => withdrawing.abort();
    signal.addEventListener('abort', withdraw, { once: true });
    if (signal.aborted) withdraw();
    void settling.confirmed.then((isSettled) => isSettled || withdraw());
    const request = { stream: STREAMS.commands, consumer: host, batch: 1, expiresMs, signal: withdrawing.signal };
    const pulled = await pull(bus, request);
    signal.removeEventListener('abort', withdraw);
    if (pulled.kind === 'messages') settling.prove();
    return pulled.kind === 'messages' || (await settling.confirmed) ? pulled : 'unsettled';
  }

  /** A paused consumer answers requests, and delivers nothing. Servers can pause one from version 2.11 on. */
  async #look(): Promise<void> {
    const { bus, host } = this.#options;
    if (this.#ended) return;
    try {
      const { paused, pause_remaining: remaining } = (await consumerInfo(bus, host)) ?? {};
      if (paused !== true) return bus.troubles.end('consuming', STREAMS.commands);
      const seconds = Math.ceil((remaining ?? 0) / 1e9);
      this.#reported(
        `the consumer ${host} of ${STREAMS.commands} is paused for another ${seconds} s; resume it (nats consumer resume)`,
      );
    } catch (error) {
      this.#reported(error);
    }
  }

  /** @param failure an error, or the reason in words. @returns the error in words */
  #reported(failure: unknown): unknown {
    const { connection, troubles } = this.#options.bus;
    const words = inWords(failure, isNoResponders(failure) ? {} : { stream: STREAMS.commands });
    const message = `Commands cannot be taken: ${continued(messageOf(words))}`;
    if (connection.connected && !this.#ended) troubles.begin('consuming', STREAMS.commands, message);
    return words;
  }

  /** Resolves when the message is handled and its acknowledgement is sent. */
  async #handle(message: Msg, handler: Handler): Promise<Settling> {
    const { bus, logger } = this.#options;
    const { session } = bus.connection;
    const reply = message.reply ?? '';
    const origin = originOf(reply);
    if (origin === undefined) {
      logger.error({ subject: message.subject, reply }, 'ignoring a message that is not from JetStream');
      return SETTLED;
    }
    const delivery = toDelivery(message, origin, this.#streamCreated);
    const beat = setInterval(() => this.#tell(reply, '+WPI'), this.#ackWaitMs / 3);
    let disposition: Disposition;
    try {
      disposition = await handler(delivery);
    } catch (error) {
      this.#putOff(reply, origin, delivery, error);
      return SETTLED;
    } finally {
      clearInterval(beat);
    }
    if (disposition === 'later') {
      this.#tell(reply, '-NAK');
      return SETTLED;
    }
    this.#handled = Math.max(this.#handled, origin.seq);
    const verdict = disposition === 'terminate' ? '+TERM' : '+ACK';
    return this.#settle(reply, verdict, origin, delivery.id, session);
  }

  #settle(reply: string, verdict: FinalAck, { seq }: Origin, op: string, session: AbortSignal): Settling {
    const { bus, host, logger } = this.#options;
    const { signal: stop } = this.#stopping;
    const ending = new AbortController();
    const end = () => ending.abort();
    stop.addEventListener('abort', end, { once: true });
    if (stop.aborted) end();
    let isProven = false;
    const late = setTimeout(() => this.#reported(UNCONFIRMED), UNCONFIRMED_MS);
    const settling = settle(bus, reply, verdict, {
      deadlineMs: this.#ackWaitMs,
      signal: ending.signal,
      session,
      isAwaited: async () => {
        if (isProven) return false;
        const consumer = await consumerInfo(bus, host);
        return consumer && consumer.num_ack_pending > 0 && consumer.delivered.stream_seq >= seq;
      },
    });
    const confirmed = settling.then((settled) => {
      clearTimeout(late);
      stop.removeEventListener('abort', end);
      if (isProven) return true;
      if (!settled) logger.warn({ op, seq }, 'the server has not confirmed the acknowledgement of the command');
      // A server that was killed may have forgotten earlier answers. It would then delay the next messages for the ack
      // wait.
      return settled && !session.aborted;
    });
    const prove = () => {
      isProven = true;
      clearTimeout(late);
      end();
    };
    return { confirmed, prove };
  }

  #putOff(reply: string, { deliveryCount, seq }: Origin, { id }: Delivery, error: unknown): void {
    const pauseMs = Math.round(pauseAfter(deliveryCount, NAK_BACKOFF));
    const fields = { op: id, seq, delivery_count: deliveryCount, pause_ms: pauseMs, err: error };
    this.#options.logger.error(fields, 'the command could not be handled');
    this.#tell(reply, `-NAK ${JSON.stringify({ delay: nanos(pauseMs) })}`);
  }

  /** Sends a word to the server without confirmation. If it gets lost, the message comes again after the ack wait. */
  #tell(reply: string, word: string): void {
    if (!this.#options.bus.nc.isClosed()) this.#options.bus.nc.publish(reply, word);
  }

  /** Waits for the connection, reads where the stream is now, and ensures the consumer. Retries without limit. */
  async #resume(onResume: OnResume): Promise<void> {
    const { logger, onStreamMissing } = this.#options;
    const { signal } = this.#stopping;
    let told: string | undefined;
    const onRetry = async (error: unknown) => {
      const err = this.#reported(error);
      const reason = messageOf(err);
      if (reason !== told) logger.warn({ err }, 'cannot consume commands; trying again');
      told = reason;
      if (!isNotFound(error)) return;
      await onStreamMissing?.().catch((failure: unknown) => {
        logger.warn({ err: failure }, 'the command stream is missing and could not be created again');
      });
    };
    const isPassing = () => !this.#ended;
    // When the consumer is stopped, its last failure is of no interest.
    await retry((tries) => this.#resumeOnce(onResume, tries), {
      backoff: EXCHANGE_BACKOFF,
      signal,
      isPassing,
      onRetry,
    }).catch(() => {});
  }

  async #resumeOnce(onResume: OnResume, tries: number): Promise<void> {
    const { bus, logger } = this.#options;
    await bus.connection.untilConnected(this.#stopping.signal);
    if (this.#ended) return;
    const position = await this.position();
    const rewound = position.created !== this.#streamCreated || position.lastSeq < this.#handled;
    if (rewound) {
      const { created, lastSeq: last_seq, consumerFloor: consumer_floor } = position;
      const fields = { created, last_seq, consumer_floor, handled: this.#handled };
      logger.warn(fields, 'the command stream has another position than before');
      this.#handled = 0;
    }
    const after = await onResume(position);
    await this.#take(position, { after: after ?? this.#handled, skip: after !== undefined });
    if (tries > 1) logger.info({ attempts: tries }, 'consuming commands again');
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
        replicas: this.#replicas,
      },
      logger,
    );
    this.#streamCreated = position.created;
    this.#ackWaitMs = (info.config.ack_wait ?? nanos(ACK_WAIT_MS)) / 1e6;
    this.#handled = after;
  }
}
