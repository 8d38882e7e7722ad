import { headers, type MsgHdrs } from 'nats';
import { type Bus, connectBus } from '../../src/bus/connect.js';
import { isNotFound } from '../../src/bus/nats-errors.js';
import { coversSubject } from '../../src/bus/stream-specs.js';
import { ensureStreams } from '../../src/bus/streams.js';
import { type Acknowledgement, parseAcknowledgement } from '../../src/messages/ack.js';
import { HEADERS, hostToken, STREAMS, type Subjects, subjectsFor } from '../../src/messages/subjects.js';
import { pipesRead } from './pipes-read.js';
import { untilGiven } from './until.js';

export interface CommandOptions {
  readonly id?: string;
  readonly gen?: number;
  readonly prevGen?: number;
  readonly expires?: Date;
}

/** What has been published about a host. */
export interface StoredEvent {
  readonly kind: string;
  readonly message: string;
}

/** A message as stored in its stream. */
export interface StoredMessage {
  readonly subject: string;
  readonly headers: MsgHdrs;
  readonly data: Uint8Array;
  json<T>(): T;
}

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
const BATCH = 500;

/**
 * Controls one host as a fleet's controller does, and sees everything that is stored about it. Can also send what a
 * correct client never would: any verb, any bytes. Survives the failure of its broker.
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

  /**
   * Creates the streams, as an agent does that starts first. Commands can then be sent to a host that has never run.
   */
  async createStreams(): Promise<void> {
    await ensureStreams(this.bus, this.subjects, SILENT);
  }

  /** Stores many commands in order, with ids like those of {@link publish}. */
  async publishAll(commands: readonly (readonly [verb: string, payload: unknown])[]): Promise<string[]> {
    const stored: string[] = [];
    for (let from = 0; from < commands.length; from += BATCH) {
      const batch = commands.slice(from, from + BATCH).map(([verb, payload]) => this.publish(verb, payload));
      for (const { id } of await Promise.all(batch)) stored.push(id);
    }
    return stored;
  }

  /** Stores a command as soon as the broker accepts it. @returns its id and its sequence */
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

  /** The acknowledgement of a command, as soon as it exists and what the agent has logged before is read. */
  async ackOf(id: string): Promise<Acknowledgement> {
    const answer = await untilGiven(`the acknowledgement of ${id}`, async () => {
      // The newest one first: checking it costs almost nothing.
      const newest = await this.#newestAck();
      if (newest?.id === id) return newest;
      return (await this.acks()).find((ack) => ack.id === id);
    });
    await pipesRead();
    return answer;
  }

  /** Every acknowledgement in the stream, in order. */
  async acks(): Promise<Acknowledgement[]> {
    const messages = await this.read(STREAMS.acks, this.subjects.ack);
    return messages.map(({ data }) => parseAcknowledgement(data));
  }

  /** Every event about the host in the stream, in order. */
  async events(): Promise<StoredEvent[]> {
    const messages = await this.read(STREAMS.events, this.subjects.event('*'));
    return messages.map((message) => message.json<StoredEvent>());
  }

  /** Waits until an event of this kind is stored. */
  async untilEvent(kind: string): Promise<StoredEvent> {
    return untilGiven(`the event ${kind}`, async () => (await this.events()).find((event) => event.kind === kind));
  }

  /**
   * Waits until the broker knows that the agent has finished all of the host's commands, for as long as it goes on: a
   * machine with other work takes minutes for hundreds of commands.
   */
  async untilSettled(): Promise<void> {
    const left = async () => {
      const info = this.bus.jsm.consumers.info(STREAMS.commands, this.#host);
      const { num_pending: pending, num_ack_pending: inHand } = await this.#guard(info);
      return pending + inHand;
    };
    let before = Number.POSITIVE_INFINITY;
    while (before > 0) {
      before = await untilGiven(`the broker to know that fewer than ${before} commands are to be done`, async () => {
        const now = await left();
        return now < before ? now : undefined;
      });
    }
  }

  /** Deletes the host's consumer while its agent uses it. */
  deleteConsumer(): Promise<void> {
    return this.#delete('the consumer', () => this.bus.jsm.consumers.delete(STREAMS.commands, this.#host));
  }

  /** Deletes the whole command stream. */
  deleteCommands(): Promise<void> {
    return this.#delete('the command stream', () => this.bus.jsm.streams.delete(STREAMS.commands));
  }

  /** The present content of a stream, read without a consumer, which might outlive the connection. */
  async read(stream: string, subject: string): Promise<StoredMessage[]> {
    const { jsm } = this.bus;
    const { state } = await this.#guard(jsm.streams.info(stream));
    const sequences = Array.from({ length: state.messages }, (_, index) => state.first_seq + index);
    const found: StoredMessage[] = [];
    for (let from = 0; from < sequences.length; from += BATCH) {
      const batch = sequences
        .slice(from, from + BATCH)
        .map((seq) => this.#guard(jsm.streams.getMessage(stream, { seq })));
      for (const stored of await Promise.all(batch)) {
        const { subject: its, header, data } = stored;
        if (coversSubject(subject, its)) found.push({ subject: its, headers: header, data, json: () => stored.json() });
      }
    }
    return found;
  }

  async #newestAck(): Promise<Acknowledgement | undefined> {
    const newest = this.bus.jsm.streams.getMessage(STREAMS.acks, { last_by_subj: this.subjects.ack });
    const stored = await this.#guard(newest).catch(() => undefined);
    return stored === undefined ? undefined : parseAcknowledgement(stored.data);
  }

  /** If the reply to a deletion was lost, the second attempt finds nothing to delete. */
  async #delete(what: string, attempt: () => Promise<boolean>): Promise<void> {
    await untilGiven(`${what} to be deleted`, async () => {
      try {
        return await this.#guard(attempt());
      } catch (error) {
        if (isNotFound(error)) return true;
        throw error;
      }
    });
  }

  /** Ends as soon as the connection does. */
  #guard<T>(exchange: Promise<T>): Promise<T> {
    return this.bus.connection.guard(exchange);
  }
}
