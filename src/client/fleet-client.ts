import { randomUUID } from 'node:crypto';
import {
  headers,
  type JetStreamClient,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  RequestStrategy,
} from 'nats';
import { ConnectionWatch } from '../bus/connection.js';
import type { Verb } from '../domain/command.js';
import { AgentError } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import { readRefusal } from '../messages/refusal.js';
import { parseReply, type ReplyOf, type RequestOf, type RequestVerb } from '../messages/requests.js';
import { HEADERS, hostToken, STREAMS, type Subjects, subjectsFor } from '../messages/subjects.js';
import { awaitAcknowledgement, lastAcknowledgements } from './answers.js';
import { type ConnectOptions, DEFAULT_TIMEOUT_MS, isNobodyThere, openConnection } from './connection.js';
import { exchanged } from './exchange.js';
import { RequestRefusedError } from './request-refused.js';

export interface PublishOptions {
  /** The command's id: the same id is never run twice. A random one unless given. */
  readonly id?: string | undefined;
  /** The controller's counter for this host, from 1. */
  readonly gen?: number | undefined;
  /** The generation that has to have been applied before. */
  readonly prevGen?: number | undefined;
  /** A command that the server stored later than this is not run. */
  readonly expires?: Date | undefined;
}

export interface Published {
  readonly id: string;
  /** Sequence in the command stream: of the first one if this is a duplicate. */
  readonly seq: number;
  /** Whether a command of this id was there already, so that this one was not stored. */
  readonly duplicate: boolean;
}

export interface WaitOptions {
  /** 60 seconds unless given. */
  readonly timeoutMs?: number | undefined;
  /**
   * Looks only at acknowledgements after this sequence of their stream (see {@link FleetClient.position}); at all
   * unless given.
   */
  readonly after?: number | undefined;
}

const DEFAULT_WAIT_MS = 60_000;
const DEFAULT_GATHER_MS = 2_000;
const DEFAULT_LIMIT = 20;
const MAX_REPLIES = 100_000;
/** A library does not log. */
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * A controller's side of the bus: sends commands, waits for their acknowledgements, asks agents.
 *
 *     const fleet = await FleetClient.connect({ servers: ['nats://127.0.0.1:4222'] });
 *     const { published, acknowledgement } = await fleet.send('deploy', 'web1', payload);
 *     await fleet.close();
 *
 * What the connection breaks under is begun again when it is back. All methods reject with AgentError: BROKER_UNREACHABLE when NATS or
 * a stream of the fleet is not there, TIMEOUT when an answer is missing, CONFIG_INVALID for a host name that cannot be one.
 */
export class FleetClient {
  readonly #nc: NatsConnection;
  readonly #js: JetStreamClient;
  readonly #jsm: JetStreamManager;
  readonly #watch: ConnectionWatch;
  readonly #prefix: string;
  readonly #timeoutMs: number;

  private constructor(nc: NatsConnection, js: JetStreamClient, jsm: JetStreamManager, options: ConnectOptions) {
    this.#nc = nc;
    this.#js = js;
    this.#jsm = jsm;
    this.#watch = new ConnectionWatch(nc, SILENT);
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

  async close(): Promise<void> {
    await this.#nc.close();
  }

  /**
   * Stores a command for a host, which runs it now or when it is back.
   *
   * @param payload as JSON takes it; bytes are sent as they are
   */
  async publish(verb: Verb, host: string, payload: unknown, options: PublishOptions = {}): Promise<Published> {
    const subject = this.#subjects(host).command(verb);
    const id = options.id ?? randomUUID();
    const body = payload instanceof Uint8Array ? payload : JSON.stringify(payload);
    const nobody = `No stream takes commands on ${subject}: no agent or controller has created ${STREAMS.commands} there`;
    try {
      const publish = () => this.#js.publish(subject, body, { msgID: id, headers: commandHeaders(options) });
      const { seq, duplicate } = await this.#exchange(publish, nobody);
      return { id, seq, duplicate };
    } catch (error) {
      if (!(error instanceof AgentError) || !error.transient) throw error;
      const message = `${error.message}; whether command ${id} is stored is not known, and it may be sent again under this id`;
      throw new AgentError(error.code, message, { cause: error, transient: true });
    }
  }

  /** The end of the acknowledgement stream: noted before publishing, it makes waiting for the answer cheap. */
  async position(): Promise<number> {
    const { state } = await this.#exchange(() => this.#jsm.streams.info(STREAMS.acks), MISSING_ACKS);
    return state.last_seq;
  }

  /** What became of a command, also of one that was answered long ago. */
  async waitForAck(host: string, id: string, options: WaitOptions = {}): Promise<Acknowledgement> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_WAIT_MS;
    const { ack } = this.#subjects(host);
    const end = performance.now() + timeoutMs;
    const wait = () => {
      const signal = AbortSignal.any([
        this.#watch.session,
        AbortSignal.timeout(Math.max(0, Math.ceil(end - performance.now()))),
      ]);
      return awaitAcknowledgement(this.#js, ack, id, options.after ?? 0, signal);
    };
    const found = await this.#exchange(wait, MISSING_ACKS, timeoutMs);
    if (found !== undefined) return found;
    throw new AgentError(
      'TIMEOUT',
      `${host} has not answered command ${id} within ${timeoutMs / 1000} s; ` +
        'the command is stored, and the host will run it once it can',
    );
  }

  /** Publishes and waits: the way most commands go. */
  async send(
    verb: Verb,
    host: string,
    payload: unknown,
    options: PublishOptions & { readonly timeoutMs?: number | undefined } = {},
  ): Promise<{ published: Published; acknowledgement: Acknowledgement }> {
    const before = await this.position();
    const published = await this.publish(verb, host, payload, options);
    const after = published.duplicate ? 0 : before;
    const acknowledgement = await this.waitForAck(host, published.id, { timeoutMs: options.timeoutMs, after });
    return { published, acknowledgement };
  }

  /** A host's last acknowledgements, oldest first; 20 unless `limit` is given. */
  async acks(host: string, options: { readonly limit?: number | undefined } = {}): Promise<Acknowledgement[]> {
    const { ack } = this.#subjects(host);
    const last = await this.position();
    return this.#exchange(
      () => lastAcknowledgements(this.#js, ack, options.limit ?? DEFAULT_LIMIT, last),
      MISSING_ACKS,
    );
  }

  status(host: string): Promise<ReplyOf<'status'>> {
    return this.request(host, 'status', {});
  }

  programs(host: string, filter: RequestOf<'programs'> = {}): Promise<ReplyOf<'programs'>> {
    return this.request(host, 'programs', filter);
  }

  /**
   * Asks one agent. What it refuses is thrown as {@link RequestRefusedError}, with everything that is wrong.
   *
   * @param extraMs to wait longer than for other answers
   */
  async request<V extends RequestVerb>(
    host: string,
    verb: V,
    parameters: RequestOf<V>,
    extraMs = 0,
  ): Promise<ReplyOf<V>> {
    const subject = this.#subjects(host).request(verb);
    const reply = await this.#exchange(
      () => this.#nc.request(subject, JSON.stringify(parameters), { timeout: this.#timeoutMs + extraMs }),
      new AgentError('TIMEOUT', `No agent answers for ${host}; is it running, and is that its name?`),
    );
    return readReply(verb, reply);
  }

  /**
   * Asks every agent and gathers what comes within `gatherMs` (2000 unless given).
   *
   * @param onFault told of every agent whose answer is an error; ignored unless given
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

  #subjects(host: string): Subjects {
    return subjectsFor(this.#prefix, hostToken(host));
  }

  /** Subjects that do not depend on the host. */
  #everyHost(): Subjects {
    return subjectsFor(this.#prefix, 'any');
  }

  #exchange<T>(exchange: () => Promise<T>, nobody: string | AgentError, patienceMs = this.#timeoutMs): Promise<T> {
    const missing = typeof nobody === 'string' ? new AgentError('BROKER_UNREACHABLE', nobody) : nobody;
    return exchanged(this.#watch, exchange, { nobody: missing, patienceMs });
  }
}

const MISSING_ACKS = `The stream ${STREAMS.acks} does not exist: no agent or controller has created it on this server`;

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
