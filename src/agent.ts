import {
  answerFolded,
  answerQuarantined,
  answerRefused,
  answerRejected,
  answerReported,
  type Receipt,
} from './answer.js';
import type { Lane } from './apply/lane.js';
import type { Backlog, Delivery, Disposition, StreamPosition } from './bus/delivery.js';
import { type Envelope, type Refusal, refusalOf } from './domain/admission.js';
import { type DesiredState, NOTHING_DESIRED } from './domain/desired.js';
import { fold } from './domain/fold.js';
import { RefusedError } from './errors.js';
import type { Host } from './host.js';
import type { Acknowledgement } from './messages/ack.js';
import { parseEnvelope } from './messages/envelope.js';
import type { EventKind } from './messages/events.js';
import { parseCommand } from './messages/parse.js';
import { check } from './plan/check.js';
import { type Reading, type Replay, type ReplayEntry, replay } from './replay.js';
import type { CommandKey, Finish, Journal } from './store/journal.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics } from './telemetry/metrics.js';

/** The bus, as far as commands need it. */
export interface CommandBus {
  position(): Promise<StreamPosition>;
  /** The commands past `after`, from the last deploy that is `usable` on. */
  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog>;
  consume(after: number, handler: (delivery: Delivery) => Promise<Disposition>): Promise<void>;
  /** Resolves when every acknowledgement in the journal's outbox is confirmed by its stream. */
  flushOutbox(): Promise<void>;
  publishEvent(kind: EventKind, message: string, data?: Record<string, unknown>): void;
  publishSnapshot(): Promise<void>;
  /** Keeps a copy of a command that is passed by, and resolves when it is stored. */
  deadLetter(delivery: Delivery): Promise<void>;
}

export interface AgentOptions {
  readonly hostName: string;
  /** Subject on which acknowledgements are published. */
  readonly ackSubject: string;
  readonly chaining: boolean;
  readonly journal: Journal;
  readonly lane: Lane;
  readonly host: Host;
  readonly bus: CommandBus;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** The server's time in milliseconds since the epoch. */
  readonly serverNow: () => number;
}

/** A command on which the agent has died this often is put aside. */
const QUARANTINE_AFTER = 3;

/**
 * The way of a command: from the stream through the lane to the kernel, and its answer back. Effects are exactly once because outcome,
 * desired state and answer go to the journal in one write, and a command found there is answered from it.
 */
export class Agent {
  readonly #options: AgentOptions;
  #lastAnswer: Acknowledgement | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
  }

  /** The newest answer that this run of the agent gave. */
  get lastAnswer(): Acknowledgement | undefined {
    return this.#lastAnswer;
  }

  /** Catches up with what the stream holds for this host, in one reconcile where it can, and then takes commands as they come. */
  async start(): Promise<void> {
    const { bus, journal, log } = this.#options;
    await this.checkPosition();
    const after = journal.stream?.lastSeq ?? null;
    const { deliveries, upTo } = await bus.backlog(after, (deploy) => this.#wouldRun(deploy));
    const [first] = deliveries;
    const caughtUp = deliveries.length > 1 && (await this.#catchUp(deliveries));
    if (deliveries.length > 0) log.info({ commands: deliveries.length, folded: caughtUp }, 'caught up with the stream');
    const from = caughtUp || first === undefined ? Math.max(upTo, after ?? 0) : first.seq - 1;
    await bus.consume(from, (delivery) => this.handle(delivery));
  }

  /** Answers one delivery; resolves when the answer is stored in its stream. */
  async handle(delivery: Delivery): Promise<Disposition> {
    const { bus, journal, lane, metrics, log } = this.#options;
    const key = keyOf(delivery);
    let record = journal.find(key);
    if (record?.status !== undefined) metrics.redelivered();
    else {
      const arrived = performance.now();
      await lane.run(async () => {
        metrics.commandWaited((performance.now() - arrived) / 1000);
        metrics.setQueueDepth(lane.depth);
        await this.#execute(delivery, key, log.child({ op: delivery.id, verb: delivery.verb, seq: delivery.seq }));
      });
      record = journal.find(key);
    }
    await bus.flushOutbox();
    await bus.publishSnapshot();
    return record?.status === 'rejected' ? 'terminate' : 'done';
  }

  /** Notices a stream that was put back to an earlier state or made anew: what follows cannot build on what was applied. */
  async checkPosition(): Promise<void> {
    const { bus, journal } = this.#options;
    const known = journal.stream;
    if (known === undefined) return;
    const now = await bus.position();
    if (now.created === known.created && now.lastSeq >= known.lastSeq) return;
    const what = now.created === known.created ? 'was put back to an earlier state' : 'was made anew';
    await this.#rewind(`The command stream ${what}`, { created: now.created, lastSeq: 0 }, { known, now });
  }

  async #rewind(reason: string, stream: { created: string; lastSeq: number }, data: object): Promise<void> {
    const { bus, journal, log } = this.#options;
    log.error({ ...data }, 'the command stream does not continue where it was');
    await journal.moveStream(stream);
    await journal.awaitDeploy(reason);
    bus.publishEvent('rewind', reason, { ...data });
    bus.publishEvent('resync-required', `${reason}; add and delete are refused until the next deploy`);
  }

  async #execute(delivery: Delivery, key: CommandKey, log: Logger): Promise<void> {
    const { bus, journal, hostName, metrics, serverNow } = this.#options;
    const begun = performance.now();
    const reading = read(delivery, hostName);
    const receipt = this.#receipt(delivery, reading.envelope);
    const done = async (
      answer: Acknowledgement,
      effect: Pick<Finish, 'desired' | 'generation' | 'clearsAwait'> = {},
    ) => {
      await journal.finish({ ...this.#finish(key, answer), ...effect });
      this.#lastAnswer = answer;
      metrics.commandFinished(delivery.verb, answer.status, (performance.now() - begun) / 1000);
      const { status, code, message, errors, duration_ms } = answer;
      if (code === undefined) log.info({ status, duration_ms }, 'command answered');
      else log.warn({ status, code, reason: message, errors, duration_ms }, 'command answered');
    };

    if (!reading.ok) return done(answerRejected(receipt, reading.error));
    await this.#noticeRewind(delivery);
    const { command, envelope } = reading;
    const refusal = this.#passedBy(delivery) ?? refusalOf(command.verb, envelope, journal, serverNow());
    if (refusal !== undefined) {
      if (refusal.code === 'GENERATION_GAP') bus.publishEvent('resync-required', refusal.message);
      return done(answerRefused(receipt, refusal));
    }
    const attempts = await journal.begin(key, delivery.verb);
    if (attempts > QUARANTINE_AFTER) {
      await bus.deadLetter(delivery);
      bus.publishEvent('quarantined', `Command ${delivery.id} is put aside`, { command_id: delivery.id });
      return done(answerQuarantined(receipt, attempts - 1));
    }
    let desired: DesiredState;
    try {
      desired = fold(await this.#basis(command.verb), command);
      this.#accept(desired);
    } catch (error) {
      return done(answerRejected(receipt, error));
    }
    log.info({ attempt: attempts }, 'applying command');
    const report = await this.#options.host.apply(journal.desired, desired, log, deadlineOf(envelope, serverNow));
    const answer = answerReported(receipt, command, report);
    if (report.status === 'failed') return done(answer);
    const { gen } = envelope;
    return done(answer, {
      desired,
      ...(gen !== undefined && { generation: gen }),
      clearsAwait: command.verb === 'deploy',
    });
  }

  /** What a delta builds on. With no record of what is desired, only a host that runs nothing of ours is known to desire nothing. */
  async #basis(verb: string): Promise<DesiredState> {
    const { host, journal } = this.#options;
    if (journal.desired !== null || verb === 'deploy') return journal.desired ?? NOTHING_DESIRED;
    const { hooks } = await host.observe();
    if (hooks.every(({ generations }) => generations.length === 0)) return NOTHING_DESIRED;
    const message =
      'Programs run here, but there is no record of what is desired; send a deploy with the whole desired state';
    throw new RefusedError([{ code: 'RESYNC_REQUIRED', message }]);
  }

  /** Whether a deploy would be run, so that what lies before it does not matter. */
  #wouldRun(deploy: Delivery): boolean {
    const { hostName, journal, serverNow } = this.#options;
    const reading = read(deploy, hostName);
    if (!reading.ok || refusalOf('deploy', reading.envelope, journal, serverNow()) !== undefined) return false;
    try {
      this.#accept(fold(NOTHING_DESIRED, reading.command));
      return true;
    } catch {
      return false;
    }
  }

  /** Folds a backlog into one desired state and reconciles once. False if it has to be gone through one by one. */
  async #catchUp(deliveries: readonly Delivery[]): Promise<boolean> {
    const { bus, host, hostName, journal, lane, log, serverNow } = this.#options;
    const seen = new Set<string>();
    const readings = deliveries
      .filter((delivery) => journal.find(keyOf(delivery))?.status === undefined)
      .filter(({ id }) => !seen.has(id) && seen.add(id))
      .map((delivery) => ({ delivery, reading: read(delivery, hostName) }));
    const done = await lane.run(async () => {
      const result = replay(readings, journal, serverNow(), (desired) => this.#accept(desired));
      const last = result.representative === undefined ? undefined : result.entries[result.representative];
      if (last === undefined || result.desired === null || last.what !== 'folded') return false;
      const attempts = await journal.begin(keyOf(last.delivery), last.delivery.verb);
      if (attempts > QUARANTINE_AFTER) return false;
      const report = await host.apply(journal.desired, result.desired, log.child({ op: last.delivery.id }));
      if (report.status === 'failed') return false;
      const answer = answerReported(this.#receipt(last.delivery, last), last.command, report);
      await journal.finishMany(this.#finishReplay(result, last.delivery, answer));
      this.#lastAnswer = answer;
      return true;
    });
    if (done) {
      await bus.flushOutbox();
      await bus.publishSnapshot();
    }
    return done;
  }

  #finishReplay({ entries, desired, generation }: Replay, last: Delivery, answer: Acknowledgement): Finish[] {
    return entries.map((entry) => {
      const own = entry.delivery === last;
      const finish = this.#finish(keyOf(entry.delivery), own ? answer : this.#answerReplayed(entry, last.id));
      if (!own || desired === null) return finish;
      const clearsAwait = entries.some(({ delivery, what }) => what === 'folded' && delivery.verb === 'deploy');
      return { ...finish, desired, ...(generation !== undefined && { generation }), clearsAwait };
    });
  }

  #answerReplayed(entry: ReplayEntry, by: string): Acknowledgement {
    const receipt = this.#receipt(entry.delivery, entry);
    if (entry.what === 'refused') return answerRefused(receipt, entry.refusal);
    if (entry.what === 'rejected') return answerRejected(receipt, entry.error);
    return answerFolded(receipt, by);
  }

  /** A message that is new and yet numbered like one of long ago comes from a stream that was put back. */
  async #noticeRewind({ seq, storedAt, streamCreated }: Delivery): Promise<void> {
    const known = this.#options.journal.stream;
    if (known === undefined) return;
    const renumbered = streamCreated === known.created && seq <= known.lastSeq && storedAt > known.storedAt;
    if (!renumbered && streamCreated === known.created) return;
    const what = renumbered ? 'was put back to an earlier state' : 'was made anew';
    await this.#rewind(`The command stream ${what}`, { created: streamCreated, lastSeq: 0 }, { known, seq, storedAt });
  }

  /** A message from before what was handled last: replay left it out, since a later deploy says it all. */
  #passedBy({ seq, streamCreated }: Delivery): Refusal | undefined {
    const known = this.#options.journal.stream;
    if (known === undefined || streamCreated !== known.created || seq > known.lastSeq) return undefined;
    const message = `Message ${seq} is older than message ${known.lastSeq}, which was handled already`;
    return { status: 'superseded', code: 'SUPERSEDED', message };
  }

  #accept(desired: DesiredState): void {
    const [first, ...rest] = check(desired, this.#options.chaining);
    if (first !== undefined) throw new RefusedError([first, ...rest]);
  }

  #receipt(delivery: Delivery, { gen }: Pick<Envelope, 'gen'>): Receipt {
    return { host: this.#options.hostName, delivery, gen, receivedAt: new Date() };
  }

  #finish(key: CommandKey, answer: Acknowledgement): Finish {
    const { ackSubject, hostName } = this.#options;
    const outbox = {
      // Unique over all hosts, and over a stream that was put back and hands out the same sequences again.
      id: `${hostName}:${answer.id}:${key.storedAt}`,
      subject: ackSubject,
      headers: { 'L3AF-Command-Id': answer.id },
      body: JSON.stringify(answer),
    };
    return { key, verb: answer.verb, status: answer.status, outbox };
  }
}

const NO_ENVELOPE: Envelope = { gen: undefined, prevGen: undefined, expires: undefined };

function keyOf({ id, seq, storedAt, streamCreated }: Delivery): CommandKey {
  return { id, seq, storedAt, streamCreated, idIsSequence: id.endsWith(`:${seq}`) };
}

function read(delivery: Delivery, hostName: string): Reading {
  let envelope: Envelope = NO_ENVELOPE;
  try {
    envelope = parseEnvelope(delivery);
    return { ok: true, envelope, command: parseCommand(delivery.verb, delivery.body, hostName) };
  } catch (error) {
    return { ok: false, envelope, error };
  }
}

/** A command that expires while it is being tried is not tried any longer. */
function deadlineOf({ expires }: Envelope, serverNow: () => number): number | undefined {
  return expires === undefined ? undefined : Date.now() + (expires.getTime() - serverNow());
}
