import { headers, type JsMsg } from 'nats';
import { type Bus, connectBus } from '../../src/bus/connect.js';
import { ensureStreams } from '../../src/bus/streams.js';
import { type Acknowledgement, parseAcknowledgement } from '../../src/messages/ack.js';
import { HEADERS, hostToken, STREAMS, type Subjects, subjectsFor } from '../../src/messages/subjects.js';
import { until, untilGiven } from './until.js';

/** Headers of a command, by their names on the wire. */
export type CommandHeaders = Readonly<Record<string, string>>;

export interface CommandOptions {
  readonly id?: string;
  readonly gen?: number;
  readonly prevGen?: number;
  readonly expires?: Date;
}

/** What has been told about a host. */
export interface StoredEvent {
  readonly kind: string;
  readonly message: string;
}

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
const BATCH = 500;
const READ_EXPIRES_MS = 2_000;

/**
 * Controls one host as a fleet's controller does, and sees everything that is stored about it. Says what a well-behaved client would
 * not: any verb, any bytes. Lives through the death of its broker.
 */
export class Controller {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly #host: string;
  #lastId = 0;

  private constructor(bus: Bus, hostName: string) {
    this.bus = bus;
    this.#host = hostToken(hostName);
    this.subjects = subjectsFor('l3af', this.#host);
  }

  static async connect(url: string, hostName: string): Promise<Controller> {
    return new Controller(await connectBus({ servers: [url], name: 'controller' }, SILENT), hostName);
  }

  async close(): Promise<void> {
    await this.bus.close();
  }

  /** Makes the streams, as an agent does that starts first; commands can then be sent to a host that has never run. */
  async createStreams(): Promise<void> {
    await ensureStreams(this.bus, this.subjects, SILENT);
  }

  /** Stores many commands in their order, with ids as {@link publish} gives them. */
  async publishAll(commands: readonly (readonly [verb: string, payload: unknown])[]): Promise<string[]> {
    const stored: string[] = [];
    for (let from = 0; from < commands.length; from += BATCH) {
      const batch = commands.slice(from, from + BATCH).map(([verb, payload]) => this.publish(verb, payload));
      for (const { id } of await Promise.all(batch)) stored.push(id);
    }
    return stored;
  }

  /** Stores a command, as soon as the broker takes it. @returns its id and its sequence */
  async publish(verb: string, payload: unknown, options: CommandOptions = {}): Promise<{ id: string; seq: number }> {
    const id = options.id ?? `${verb}-${++this.#lastId}`;
    const map = headers();
    if (options.gen !== undefined) map.set(HEADERS.gen, String(options.gen));
    if (options.prevGen !== undefined) map.set(HEADERS.prevGen, String(options.prevGen));
    if (options.expires !== undefined) map.set(HEADERS.expires, options.expires.toISOString());
    const body = payload instanceof Uint8Array ? payload : JSON.stringify(payload);
    const { seq } = await untilGiven(`the broker to store ${id}`, () =>
      this.#guard(this.bus.js.publish(this.subjects.command(verb), body, { msgID: id, headers: map })),
    );
    return { id, seq };
  }

  /** Publishes and waits for the answer. */
  async send(verb: string, payload: unknown, options: CommandOptions = {}): Promise<Acknowledgement> {
    const { id } = await this.publish(verb, payload, options);
    return this.ackOf(id);
  }

  /** The answer to a command, once there is one. */
  ackOf(id: string): Promise<Acknowledgement> {
    return untilGiven(`the acknowledgement of ${id}`, async () => {
      // The newest one first: looking at it costs next to nothing.
      const newest = await this.#newestAck();
      if (newest?.id === id) return newest;
      return (await this.acks()).find((ack) => ack.id === id);
    });
  }

  /** Every acknowledgement in the stream, in its order. */
  async acks(): Promise<Acknowledgement[]> {
    const messages = await this.read(STREAMS.acks, this.subjects.ack);
    return messages.map(({ data }) => parseAcknowledgement(data));
  }

  /** Every event about the host in the stream, in its order. */
  async events(): Promise<StoredEvent[]> {
    const messages = await this.read(STREAMS.events, this.subjects.event('*'));
    return messages.map((message) => message.json<StoredEvent>());
  }

  /** Waits until an event of this kind is stored. */
  async untilEvent(kind: string): Promise<StoredEvent> {
    return untilGiven(`the event ${kind}`, async () => (await this.events()).find((event) => event.kind === kind));
  }

  /** Waits until the broker knows that the agent is done with all of the host's commands. */
  async untilSettled(): Promise<void> {
    await until('the broker to know that every command is done', async () => {
      const { num_pending: pending, num_ack_pending: inHand } = await this.#guard(
        this.bus.jsm.consumers.info(STREAMS.commands, this.#host),
      );
      return pending + inHand === 0;
    });
  }

  /** What is in a stream now. */
  async read(stream: string, subject: string): Promise<JsMsg[]> {
    const consumer = await this.#guard(this.bus.js.consumers.get(stream, { filterSubjects: subject }));
    const { num_pending: pending } = await this.#guard(consumer.info());
    const found: JsMsg[] = [];
    if (pending === 0) return found;
    for await (const message of await consumer.fetch({ max_messages: pending, expires: READ_EXPIRES_MS }))
      found.push(message);
    await this.#guard(consumer.delete()).catch(() => undefined);
    if (found.length < pending) throw new Error(`Got ${found.length} of ${pending} messages of ${stream}`);
    return found;
  }

  async #newestAck(): Promise<Acknowledgement | undefined> {
    const newest = this.bus.jsm.streams.getMessage(STREAMS.acks, { last_by_subj: this.subjects.ack });
    const stored = await this.#guard(newest).catch(() => undefined);
    return stored === undefined ? undefined : parseAcknowledgement(stored.data);
  }

  /** Breaks off as soon as the connection does. */
  #guard<T>(exchange: Promise<T>): Promise<T> {
    return this.bus.connection.guard(exchange);
  }
}
