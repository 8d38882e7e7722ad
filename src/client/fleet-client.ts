import { randomUUID } from 'node:crypto';
import {
  headers,
  type JetStreamClient,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  RequestStrategy,
} from 'nats';
import { whyNobody } from '../bus/absence.js';
import { INBOX_PREFIX, JS_API_PREFIX } from '../bus/access.js';
import { ConnectionWatch } from '../bus/connection.js';
import { Deadline } from '../deadline.js';
import type { Verb } from '../domain/command.js';
import { AgentError } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import { readRefusal } from '../messages/refusal.js';
import { parseReply, type ReplyOf, type RequestOf, type RequestVerb } from '../messages/requests.js';
import { HEADERS, hostToken, STREAMS, type Subjects, subjectsFor } from '../messages/subjects.js';
import { type AnswerSource, awaitAcknowledgement, lastAcknowledgements } from './answers.js';
import { type ConnectOptions, DEFAULT_TIMEOUT_MS, isNobodyThere, openConnection } from './connection.js';
import { exchanged } from './exchange.js';
import { RequestRefusedError } from './request-refused.js';

export interface PublishOptions {
  /** The command's id. The same id never runs twice. Random by default. */
  readonly id?: string | undefined;
  /** The controller's counter for this host, from 1. */
  readonly gen?: number | undefined;
  /** The generation that must have been applied before. */
  readonly prevGen?: number | undefined;
  /** The command does not run if the server stores it later than this. */
  readonly expires?: Date | undefined;
}

export interface Published {
  readonly id: string;
  /** Sequence in the command stream. For a duplicate, that of the first one. */
  readonly seq: number;
  /** Whether a command with this id already existed, so that this one was not stored. */
  readonly duplicate: boolean;
}

export interface WaitOptions {
  /** 60 seconds by default. */
  readonly timeoutMs?: number | undefined;
  /**
   * Searches only acknowledgements after this sequence of their stream (see {@link FleetClient.position}); all by
   * default.
   */
  readonly after?: number | undefined;
}

const DEFAULT_WAIT_MS = 60_000;
const DEFAULT_GATHER_MS = 2_000;
const DEFAULT_LIMIT = 20;
const MAX_REPLIES = 100_000;
const CLOSE_FLUSH_MS = 1_000;
/** A library does not log. */
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * A controller's side of the bus: sends commands, waits for their acknowledgements, sends requests to agents.
 *
 *     const fleet = await FleetClient.connect({ servers: ['nats://127.0.0.1:4222'] });
 *     const { published, acknowledgement } = await fleet.send('deploy', 'web1', payload);
 *     await fleet.close();
 *
 * If the connection breaks during an exchange, the exchange starts again when it is back. All methods reject with
 * AgentError: BROKER_UNREACHABLE when NATS or a stream of the fleet does not answer, BROKER_REFUSED when the server has
 * refused, TIMEOUT when an answer is missing, CONFIG_INVALID for an invalid host name.
 */
export class FleetClient {
  readonly #nc: NatsConnection;
  readonly #js: JetStreamClient;
  readonly #jsm: JetStreamManager;
  readonly #watch: ConnectionWatch;
  readonly #options: ConnectOptions;
  readonly #prefix: string;
  readonly #timeoutMs: number;

  private constructor(nc: NatsConnection, js: JetStreamClient, jsm: JetStreamManager, options: ConnectOptions) {
    this.#nc = nc;
    this.#js = js;
    this.#jsm = jsm;
    this.#watch = new ConnectionWatch(nc, SILENT);
    this.#options = options;
    this.#prefix = options.prefix ?? 'l3af';
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  static async connect(options: ConnectOptions): Promise<FleetClient> {
    const nc = await openConnection(options);
    const jetstream = {
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      checkAPI: false,
      ...(options.jsApiPrefix !== undefined && { apiPrefix: options.jsApiPrefix }),
    };
    const client = new FleetClient(nc, nc.jetstream(jetstream), await nc.jetstreamManager(jetstream), options);
    client.#watch.start();
    return client;
  }

  /** Sends what is under way, if the server takes it within a moment, and closes. */
  async close(): Promise<void> {
    using deadline = new Deadline(CLOSE_FLUSH_MS, this.#watch.session);
    const over = new Promise((resolve) => deadline.signal.addEventListener('abort', resolve, { once: true }));
    if (!deadline.signal.aborted) await Promise.race([this.#nc.flush().catch(() => {}), over]);
    await this.#nc.close();
  }

  /**
   * Stores a command for a host, which runs it now or when it is back.
   *
   * @param payload is sent as JSON; bytes are sent unchanged
   */
  async publish(verb: Verb, host: string, payload: unknown, options: PublishOptions = {}): Promise<Published> {
    const subject = this.#subjects(host).command(verb);
    const id = options.id ?? randomUUID();
    const body = payload instanceof Uint8Array ? payload : JSON.stringify(payload);
    const publish = () => this.#js.publish(subject, body, { msgID: id, headers: commandHeaders(options) });
    try {
      const { seq, duplicate } = await this.#exchangeWith(STREAMS.commands, publish, subject);
      return { id, seq, duplicate };
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      const { code, transient } = error;
      // Only without an answer it is unknown.
      const outcome = UNANSWERED.has(code) && transient ? unknownOutcome(id) : `command ${id} is not stored`;
      throw new AgentError(code, `${error.message}; ${outcome}`, { cause: error, transient });
    }
  }

  /**
   * The end of the acknowledgement stream. Read it before publishing, so that waiting for the answer searches only new
   * acknowledgements.
   */
  async position(): Promise<number> {
    const { state } = await this.#exchangeWith(STREAMS.acks, () => this.#jsm.streams.info(STREAMS.acks));
    return state.last_seq;
  }

  /** The result of a command, also of one that was answered long ago. */
  async waitForAck(host: string, id: string, options: WaitOptions = {}): Promise<Acknowledgement> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_WAIT_MS;
    const { ack } = this.#subjects(host);
    const end = performance.now() + timeoutMs;
    const wait = async () => {
      using deadline = new Deadline(end - performance.now(), this.#watch.session);
      return await awaitAcknowledgement(this.#answers, ack, id, options.after ?? 0, deadline.signal);
    };
    const found = await this.#exchangeWith(STREAMS.acks, wait, undefined, timeoutMs, end);
    if (found !== undefined) return found;
    throw new AgentError('TIMEOUT', `${host} has not answered command ${id} within ${timeoutMs / 1000} s`);
  }

  /**
   * Publishes a command and waits for its acknowledgement.
   *
   * @throws AgentError as {@link publish} and {@link waitForAck} do. After the command is stored, the message says so, and
   *   what its host says about it
   */
  async send(
    verb: Verb,
    host: string,
    payload: unknown,
    options: PublishOptions & { readonly timeoutMs?: number | undefined } = {},
  ): Promise<{ published: Published; acknowledgement: Acknowledgement }> {
    const before = await this.position();
    const published = await this.publish(verb, host, payload, options);
    const after = published.duplicate ? 0 : before;
    try {
      const acknowledgement = await this.waitForAck(host, published.id, { timeoutMs: options.timeoutMs, after });
      return { published, acknowledgement };
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      const { code, message, transient } = error;
      const known = await this.#whereIs(published, host);
      throw new AgentError(code, `${message}; ${known}`, { cause: error, transient });
    }
  }

  /** What is known about a stored command without its answer, as the rest of a sentence. */
  async #whereIs({ id, seq }: Published, host: string): Promise<string> {
    const stored = 'the command is stored, and the host will run it as soon as it can';
    try {
      const { last_command: last, troubles = [] } = await this.status(host);
      const reasons = troubles.length === 0 ? '' : `. It reports: ${troubles.map(({ message }) => message).join('. ')}`;
      if (last !== undefined && last.id !== id && last.seq > seq) return 'the host has handled it, and later ones';
      if (last?.id !== id) return `${stored}${reasons}`;
      const isKept = troubles.some(({ task }) => task === 'storing');
      return `the host has run it (${last.status})${isKept ? `, but has not stored its answer${reasons}` : ''}`;
    } catch (error) {
      const isAway = error instanceof AgentError && error.code === 'TIMEOUT';
      return isAway ? `${stored}; no agent answers for it at the moment` : stored;
    }
  }

  /** A host's last acknowledgements, oldest first; 20 by default. */
  async acks(host: string, options: { readonly limit?: number | undefined } = {}): Promise<Acknowledgement[]> {
    const { ack } = this.#subjects(host);
    const last = await this.position();
    return this.#exchangeWith(STREAMS.acks, () =>
      lastAcknowledgements(this.#answers, ack, options.limit ?? DEFAULT_LIMIT, last, this.#watch.session),
    );
  }

  status(host: string): Promise<ReplyOf<'status'>> {
    return this.request(host, 'status', {});
  }

  programs(host: string, filter: RequestOf<'programs'> = {}): Promise<ReplyOf<'programs'>> {
    return this.request(host, 'programs', filter);
  }

  /**
   * What a command would do. The payload goes out as it is, so that the agent sees what it would get with the command.
   *
   * @param payload JSON
   * @throws RequestRefusedError with everything that is wrong
   */
  plan(host: string, verb: Verb, payload: Uint8Array): Promise<ReplyOf<'plan'>> {
    const body = `{"verb":${JSON.stringify(verb)},"payload":${new TextDecoder().decode(payload)}}`;
    return this.#request(host, 'plan', body);
  }

  /**
   * Sends a request to one agent. If the agent refuses it, throws {@link RequestRefusedError} with everything that is
   * wrong.
   *
   * @param extraMs how much longer to wait than for other answers
   */
  async request<V extends RequestVerb>(
    host: string,
    verb: V,
    parameters: RequestOf<V>,
    extraMs = 0,
  ): Promise<ReplyOf<V>> {
    return this.#request(host, verb, JSON.stringify(parameters), extraMs);
  }

  async #request<V extends RequestVerb>(host: string, verb: V, body: string, extraMs = 0): Promise<ReplyOf<V>> {
    const subject = this.#subjects(host).request(verb);
    const reply = await this.#exchange(
      () => this.#nc.request(subject, body, { timeout: this.#timeoutMs + extraMs }),
      new AgentError('TIMEOUT', `No agent answers for ${host}; check that it is running and that the name is right`),
    );
    return readReply(verb, reply);
  }

  /**
   * Sends a request to every agent and collects the answers that come within `gatherMs` (2000 by default).
   *
   * @param onFault called for every agent whose answer is an error; ignored by default
   */
  async requestAll<V extends RequestVerb>(
    verb: V,
    parameters: RequestOf<V>,
    options: { readonly gatherMs?: number | undefined; readonly onFault?: (error: unknown) => void } = {},
  ): Promise<ReplyOf<V>[]> {
    return this.#exchange(() => this.#gather(verb, parameters, options), 'No agent answers');
  }

  async #gather<V extends RequestVerb>(
    verb: V,
    parameters: RequestOf<V>,
    options: { readonly gatherMs?: number | undefined; readonly onFault?: (error: unknown) => void },
  ): Promise<ReplyOf<V>[]> {
    const gathered: ReplyOf<V>[] = [];
    const replies = await this.#nc.requestMany(this.#everyHost().requestAll(verb), JSON.stringify(parameters), {
      strategy: RequestStrategy.Timer,
      maxWait: options.gatherMs ?? DEFAULT_GATHER_MS,
      maxMessages: MAX_REPLIES,
    });
    try {
      for await (const reply of replies) {
        try {
          gathered.push(readReply(verb, reply));
        } catch (error) {
          options.onFault?.(error);
        }
      }
    } catch (error) {
      if (!isNobodyThere(error)) throw error;
    }
    return gathered;
  }

  get #answers(): AnswerSource {
    const { jsApiPrefix = JS_API_PREFIX, inboxPrefix = INBOX_PREFIX } = this.#options;
    return {
      nc: this.#nc,
      jsm: this.#jsm,
      connection: this.#watch,
      patienceMs: this.#timeoutMs,
      // nats.js takes it with a dot at the end, too.
      jsApiPrefix: jsApiPrefix.replace(/\.$/, ''),
      inboxPrefix,
    };
  }

  #subjects(host: string): Subjects {
    return subjectsFor(this.#prefix, hostToken(host));
  }

  /** Subjects that do not depend on the host. */
  #everyHost(): Subjects {
    return subjectsFor(this.#prefix, 'any');
  }

  /**
   * An exchange with a stream.
   *
   * @param subject on which the stream is expected to take messages
   */
  #exchangeWith<T>(
    stream: string,
    exchange: () => Promise<T>,
    subject?: string,
    patienceMs = this.#timeoutMs,
    end = Number.POSITIVE_INFINITY,
  ): Promise<T> {
    const nobody = () => whyNobody(this.#jsm, stream, subject);
    const about = { stream, maxPayload: this.#nc.info?.max_payload };
    return exchanged(this.#watch, exchange, { nobody, about, patienceMs, end });
  }

  #exchange<T>(exchange: () => Promise<T>, nobody: string | AgentError): Promise<T> {
    const missing = typeof nobody === 'string' ? new AgentError('BROKER_UNREACHABLE', nobody) : nobody;
    const about = { maxPayload: this.#nc.info?.max_payload };
    return exchanged(this.#watch, exchange, { nobody: () => missing, about, patienceMs: this.#timeoutMs });
  }
}

/** The codes of an exchange without an answer. */
const UNANSWERED: ReadonlySet<AgentError['code']> = new Set(['BROKER_UNREACHABLE', 'TIMEOUT']);

function unknownOutcome(id: string): string {
  return `it is unknown whether command ${id} is stored; send it again with this id`;
}

function commandHeaders({ gen, prevGen, expires }: PublishOptions) {
  const map = headers();
  if (gen !== undefined) map.set(HEADERS.gen, String(gen));
  if (prevGen !== undefined) map.set(HEADERS.prevGen, String(prevGen));
  if (expires !== undefined) map.set(HEADERS.expires, expires.toISOString());
  return map;
}

function readReply<V extends RequestVerb>(verb: V, reply: Msg): ReplyOf<V> {
  const refusal = reply.headers?.get('Nats-Service-Error');
  if (refusal) throw new RequestRefusedError(verb, readRefusal(reply.data, refusal));
  return parseReply(verb, reply.data);
}
