import {
  answerFailed,
  answerQuarantined,
  answerRefused,
  answerRejected,
  answerReported,
  finishOf,
  type Receipt,
} from './answer.js';
import type { Lane } from './apply/lane.js';
import type { Backlog, Delivery, DeliveryHead, Disposition, StreamPosition } from './bus/delivery.js';
import { catchUp } from './catch-up.js';
import { companionsNamedBy } from './companion-watch.js';
import { type Envelope, type Refusal, refusalOf } from './domain/admission.js';
import type { Verb } from './domain/command.js';
import { type Continuity, continuityOfMessage, continuityOfStream } from './domain/continuity.js';
import { type DesiredState, NOTHING_DESIRED } from './domain/desired.js';
import { fold } from './domain/fold.js';
import { isBare, type Observed } from './domain/observed.js';
import { type Fault, RefusedError } from './errors.js';
import type { Host } from './host.js';
import type { Acknowledgement } from './messages/ack.js';
import type { EventKind } from './messages/events.js';
import { absentInterfaces, type ChainRules, check } from './plan/check.js';
import { keyOf, readDelivery } from './reading.js';
import type { Finish, Journal } from './store/journal.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics } from './telemetry/metrics.js';

/** The bus, as far as commands need it. */
export interface CommandBus {
  position(): Promise<StreamPosition>;
  /** The message with a sequence, if there is one. */
  at(seq: number): Promise<Delivery | undefined>;
  /** The commands past `after`; for null, those from the last deploy that is `usable` on. */
  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog>;
  /** Hands over the commands between two sequences, once more from the beginning whenever the connection breaks. */
  bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void>;
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
  readonly rules: ChainRules;
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
  /** The commands that this run of the agent has begun since it last finished one, and which attempt it is for each. */
  readonly #begun = new Map<string, number>();

  constructor(options: AgentOptions) {
    this.#options = options;
  }

  /** The newest answer that this run of the agent gave. */
  get lastAnswer(): Acknowledgement | undefined {
    return this.#lastAnswer;
  }

  /** Catches up with what the stream holds for this host, in one reconcile where it can, and then takes commands as they come. */
  async start(): Promise<void> {
    const { bus, journal } = this.#options;
    await this.checkPosition();
    const from = await this.#replay(journal.stream?.lastSeq ?? null);
    await bus.consume(from, (delivery) => this.handle(delivery));
  }

  /**
   * On a host without a record, a deploy that cannot be carried out must not hide what was applied before it: the search goes on from the
   * last one that can.
   *
   * @param after sequence of the last command answered; null without a record
   * @returns sequence after which commands are to be taken one by one
   */
  async #replay(after: number | null): Promise<number> {
    const { bus, journal, log } = this.#options;
    const hopeless = new Set<string>();
    for (;;) {
      const isUsable = (deploy: Delivery) => !hopeless.has(deploy.id) && this.#wouldRun(deploy);
      const { deliveries, upTo } = await bus.backlog(after, isUsable);
      if (deliveries[0] === undefined) return Math.max(upTo, after ?? 0);
      const end = deliveries.findIndex(({ id }) => hopeless.has(id));
      const foldable = end === -1 ? deliveries : deliveries.slice(0, end);
      const [first, last] = [foldable[0], foldable.at(-1)];
      if (first === undefined || last === undefined) return deliveries[0].seq - 1;
      const isSearching = after === null && first.verb === 'deploy';
      const follow = foldable.every((delivery) => continuityOfMessage(delivery, journal.stream) === 'follows');
      if (!follow || (deliveries.length === 1 && !isSearching)) return first.seq - 1;
      const folded = await this.#catchUp(foldable);
      log.info({ commands: deliveries.length, folded }, 'caught up with the stream');
      if (folded) return end === -1 ? upTo : last.seq;
      if (!isSearching) return first.seq - 1;
      if (foldable.length > 1 && (await this.#catchUp([first]))) return first.seq;
      hopeless.add(first.id);
    }
  }

  /** Answers one delivery; resolves when the answer is stored in its stream. */
  async handle(delivery: Delivery): Promise<Disposition> {
    const { bus, journal, lane, metrics, log } = this.#options;
    const key = keyOf(delivery);
    const known = journal.find(key);
    if (known?.status !== undefined) {
      metrics.redelivered();
      if (known.key.storedAt !== key.storedAt)
        log.warn({ op: key.id, first: known.key }, 'command id used a second time');
      // A store that was put back may have lost the answer; a stream that has it recognises it by its id.
      const { verb, status, answer } = known;
      if (known.acknowledged && answer !== undefined) await journal.finish({ key, verb, status, outbox: answer });
    } else {
      const arrived = performance.now();
      await lane.run(async () => {
        metrics.commandWaited((performance.now() - arrived) / 1000);
        metrics.setQueueDepth(lane.depth);
        await this.#execute(delivery, log.child({ op: delivery.id, verb: delivery.verb, seq: delivery.seq }));
      });
    }
    await bus.flushOutbox();
    await bus.publishSnapshot();
    return journal.find(key)?.status === 'rejected' ? 'terminate' : 'done';
  }

  /** Notices a stream that was put back to an earlier state or made anew. To be asked whenever the stream was out of sight. */
  async checkPosition(): Promise<void> {
    const { bus, journal } = this.#options;
    if (journal.stream === undefined) return;
    const { lastSeq } = journal.stream;
    const now = await bus.position();
    const there = lastSeq === 0 ? undefined : await bus.at(lastSeq);
    await this.#noticeRewind(continuityOfStream(now, journal.stream, there?.storedAt), now);
  }

  /** What follows a rewind cannot build on what was applied: deltas are refused until a deploy says it all. */
  async #noticeRewind(continuity: Continuity, now: { created: string; lastSeq: number }): Promise<void> {
    const { bus, journal, log } = this.#options;
    if (continuity !== 'put-back' && continuity !== 'made-anew') return;
    const what = continuity === 'put-back' ? 'was put back to an earlier state' : 'was made anew';
    const [reason, data] = [`The command stream ${what}`, { known: journal.stream, now }];
    log.error(data, 'the command stream does not continue where it was');
    // In this order: an agent that dies between the two notices the rewind again.
    await journal.awaitDeploy(reason);
    await journal.moveStream({ created: now.created, lastSeq: 0, storedAt: journal.stream?.storedAt ?? '' });
    bus.publishEvent('rewind', reason, data);
    bus.publishEvent('resync-required', `${reason}; add and delete are refused until the next deploy`);
  }

  async #execute(delivery: Delivery, log: Logger): Promise<void> {
    const { bus, host, journal, hostName, serverNow } = this.#options;
    const key = keyOf(delivery);
    const begun = performance.now();
    const reading = readDelivery(delivery, hostName);
    const receipt: Receipt = { host: hostName, delivery, gen: reading.envelope.gen, receivedAt: new Date() };
    const done = async (answer: Acknowledgement, effect: Effect = {}) => {
      await journal.finish({ ...finishOf(key, answer, this.#options), ...effect });
      this.#begun.clear();
      this.#told(answer, (performance.now() - begun) / 1000, log);
    };

    if (!reading.ok) return done(answerRejected(receipt, reading.error));
    const continuity = continuityOfMessage(delivery, journal.stream);
    await this.#noticeRewind(continuity, { created: delivery.streamCreated, lastSeq: delivery.seq });
    const { command, envelope } = reading;
    const refusal =
      continuity === 'lies-before' ? LIES_BEFORE : refusalOf(command.verb, envelope, journal, serverNow());
    if (refusal !== undefined) {
      if (refusal.code === 'GENERATION_GAP') bus.publishEvent('resync-required', refusal.message);
      return done(answerRefused(receipt, refusal));
    }

    const attempt = await this.#begin(delivery);
    if (attempt > QUARANTINE_AFTER) {
      await bus.deadLetter(delivery);
      bus.publishEvent('quarantined', `Command ${delivery.id} is put aside`, { command_id: delivery.id });
      return done(answerQuarantined(receipt, attempt - 1));
    }

    const observed = await host.observe();
    let desired: DesiredState;
    try {
      desired = fold(this.#basis(command.verb, observed), command);
      this.#accept(desired);
    } catch (error) {
      return done(answerRejected(receipt, error));
    }
    const absent = command.verb === 'delete' ? [] : absentInterfaces(command, observed);
    if (absent.length > 0) return done(answerFailed(receipt, new RefusedError(absent as [Fault, ...Fault[]])));

    log.info({ attempt }, 'applying command');
    const named = companionsNamedBy(command);
    const report = await host.apply(journal.desired, desired, log, deadlineOf(envelope, serverNow), named);
    const answer = answerReported(receipt, command, report);
    if (report.status === 'failed') return done(answer);
    const { gen } = envelope;
    const generation = gen === undefined ? {} : { generation: gen };
    return done(answer, { desired, ...generation, clearsAwait: command.verb === 'deploy' });
  }

  /** How many runs of the agent have begun a command: a fault that the agent lives through, as of its disk, does not count. */
  async #begin(delivery: DeliveryHead): Promise<number> {
    const key = keyOf(delivery);
    const name = `${key.id} ${key.storedAt}`;
    const attempt = this.#begun.get(name) ?? (await this.#options.journal.begin(key, delivery.verb));
    this.#begun.set(name, attempt);
    return attempt;
  }

  /** What a delta builds on. With no record of what is desired, only a host that runs nothing of ours is known to desire nothing. */
  #basis(verb: Verb, observed: Observed): DesiredState {
    const { desired } = this.#options.journal;
    if (desired !== null || verb === 'deploy') return desired ?? NOTHING_DESIRED;
    if (isBare(observed)) return NOTHING_DESIRED;
    const message =
      'Programs run here, but there is no record of what is desired; send a deploy with the whole desired state';
    throw new RefusedError([{ code: 'RESYNC_REQUIRED', message }]);
  }

  /** Whether a deploy would be run, so that what lies before it does not matter. */
  #wouldRun(deploy: Delivery): boolean {
    const { hostName, journal, serverNow } = this.#options;
    const reading = readDelivery(deploy, hostName);
    if (!reading.ok || refusalOf('deploy', reading.envelope, journal, serverNow()) !== undefined) return false;
    try {
      this.#accept(fold(NOTHING_DESIRED, reading.command));
      return true;
    } catch {
      return false;
    }
  }

  async #catchUp(deliveries: readonly DeliveryHead[]): Promise<boolean> {
    const { bus, lane } = this.#options;
    const accept = (desired: DesiredState) => this.#accept(desired);
    const begin = (delivery: DeliveryHead) => this.#begin(delivery);
    const read: CommandBus['bodies'] = (range, start) => bus.bodies(range, start);
    const options = { ...this.#options, accept, begin, read, attempts: QUARANTINE_AFTER };
    const answer = await lane.run(() => catchUp(deliveries, options));
    if (answer === undefined) return false;
    this.#lastAnswer = answer;
    await bus.flushOutbox();
    await bus.publishSnapshot();
    return true;
  }

  #accept(desired: DesiredState): void {
    const [first, ...rest] = check(desired, this.#options.rules);
    if (first !== undefined) throw new RefusedError([first, ...rest]);
  }

  #told(answer: Acknowledgement, seconds: number, log: Logger): void {
    const { verb, status, code, message, duration_ms } = answer;
    this.#lastAnswer = answer;
    this.#options.metrics.commandFinished(verb, status, seconds);
    if (code === undefined) log.info({ status, duration_ms }, 'command answered');
    else log.warn({ status, code, reason: message, duration_ms }, 'command answered');
  }
}

type Effect = Pick<Finish, 'desired' | 'generation' | 'clearsAwait'>;

const LIES_BEFORE: Refusal = {
  status: 'superseded',
  code: 'SUPERSEDED',
  message: 'The command is older than one that was handled already',
};

/** A command that expires while it is being tried is not tried any longer. */
function deadlineOf({ expires }: Envelope, serverNow: () => number): number | undefined {
  return expires === undefined ? undefined : Date.now() + (expires.getTime() - serverNow());
}
