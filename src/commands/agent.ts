import type { Lane, Turn } from '../apply/lane.js';
import type { Delivery, Disposition } from '../bus/delivery.js';
import { type AdmissionRefusal, type Envelope, refusalOf } from '../domain/admission.js';
import type { Command } from '../domain/command.js';
import { continuityOfMessage } from '../domain/continuity.js';
import type { DesiredState } from '../domain/desired.js';
import { type Fault, RefusedError } from '../errors.js';
import type { Acknowledgement } from '../messages/ack.js';
import { absentInterfaces, type ChainRules } from '../plan/check.js';
import { companionsNamedBy } from '../reconcile/companion-watch.js';
import { type Host, Interrupted } from '../reconcile/host.js';
import type { Finish, Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import {
  answerFailed,
  answerQuarantined,
  answerRefused,
  answerRejected,
  answerReported,
  finishOf,
  type Receipt,
} from './answer.js';
import { Attempts, QUARANTINE_AFTER } from './attempts.js';
import { takeBacklog } from './backlog.js';
import type { CommandBus } from './command-bus.js';
import { keepingParser, keyOf, readDelivery } from './reading.js';
import { lookForRewind, noteRewind } from './rewind.js';
import { wantedBy } from './wanted.js';

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
  /** The server's time, in milliseconds since the epoch. */
  readonly serverNow: () => number;
  /** Aborted when the agent is stopped. A command that would have to be retried is then given back. */
  readonly signal: AbortSignal;
  /** Whether the files and mounts that the agent needs still exist. If not, the agent ends. */
  readonly stands: () => Promise<boolean>;
}

/** The answer to a command, and its effect on the journal. */
type AnsweredCommand = readonly [Acknowledgement, Pick<Finish, 'desired' | 'generation' | 'clearsAwait'>?];

/**
 * Handles commands: from the stream through the lane to the kernel, and the answer back. Effects happen exactly once,
 * because outcome, desired state and answer are written to the journal together. A command that is already in the
 * journal gets its answer from there.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #attempts: Attempts;
  readonly #parse = keepingParser();
  #lastAnswer: Acknowledgement | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#attempts = new Attempts(options.journal);
  }

  /** The newest answer of this run of the agent. */
  get lastAnswer(): Acknowledgement | undefined {
    return this.#lastAnswer;
  }

  /**
   * Catches up with the commands that the stream holds for this host, in one reconcile if possible. Then handles
   * commands as they arrive.
   */
  async start(): Promise<void> {
    await this.#checkPosition();
    const onAnswer = (answer: Acknowledgement) => {
      this.#lastAnswer = answer;
    };
    const from = await takeBacklog({ ...this.#options, attempts: this.#attempts, onAnswer });
    const { bus, journal } = this.#options;
    const onResume = async () => {
      await this.#checkPosition();
      return journal.stream?.lastSeq;
    };
    await bus.consume(from, (delivery) => this.handle(delivery), onResume);
  }

  /** Call this when no command is in progress any more and the agent ends in order. */
  async stop(): Promise<void> {
    await this.#attempts.takeBack(this.#options.log);
  }

  /**
   * Detects a stream that was put back to an earlier state or created again. Call this whenever the stream was out of
   * reach.
   */
  #checkPosition(): Promise<void> {
    return lookForRewind(this.#options);
  }

  /**
   * Answers one delivery. Resolves when the answer is stored in its stream, or when the agent stops and gives the
   * delivery back.
   */
  async handle(delivery: Delivery): Promise<Disposition> {
    const { bus, journal, lane, metrics, log } = this.#options;
    const key = keyOf(delivery);
    if (journal.find(key)?.status !== undefined) await this.#answerAgain(delivery);
    else {
      const arrived = performance.now();
      const receivedAt = new Date();
      const child = log.child({ op: delivery.id, verb: delivery.verb, seq: delivery.seq });
      const ran = await lane.run(async (turn) => {
        metrics.commandWaited((performance.now() - arrived) / 1000);
        metrics.setQueueDepth(lane.depth);
        return this.#run(turn, delivery, receivedAt, child);
      });
      if (!ran) return 'later';
    }
    await bus.flushOutbox();
    bus.publishSnapshotSoon();
    return journal.find(key)?.status === 'rejected' ? 'terminate' : 'done';
  }

  async #answerAgain(delivery: Delivery): Promise<void> {
    const { journal, metrics, log } = this.#options;
    const key = keyOf(delivery);
    const known = journal.find(key)!;
    metrics.redelivered();
    if (known.key.storedAt !== key.storedAt)
      log.warn({ op: key.id, first: known.key }, 'command id used a second time');
    // A stream that was put back may have lost the answer, so it is sent again. A stream that still has it recognises
    // it by its id.
    const { verb, status, answer } = known;
    if (known.acknowledged && status !== undefined && answer !== undefined)
      await journal.finish({ key, verb, status, outbox: answer });
  }

  /** @returns false if the agent was stopped before there was an outcome; the next agent starts the command again */
  async #run(turn: Turn, delivery: Delivery, receivedAt: Date, log: Logger): Promise<boolean> {
    const begun = performance.now();
    try {
      if (this.#options.signal.aborted || !(await this.#options.stands())) throw new Interrupted();
      const [answer, effect] = await this.#outcomeOf(turn, delivery, receivedAt, log);
      await this.#options.journal.finish({ ...finishOf(keyOf(delivery), answer, this.#options), ...effect });
      this.#attempts.finished(delivery);
      this.#told(answer, (performance.now() - begun) / 1000, log);
      return true;
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      log.info('the agent stops before the command has an outcome; the next agent starts it again');
      return false;
    }
  }

  async #outcomeOf(turn: Turn, delivery: Delivery, receivedAt: Date, log: Logger): Promise<AnsweredCommand> {
    const { bus, hostName } = this.#options;
    const reading = readDelivery(delivery, hostName, this.#parse);
    const receipt: Receipt = { host: hostName, delivery, gen: reading.envelope.gen, receivedAt };
    if (!reading.ok) return [answerRejected(receipt, reading.error)];
    const { command, envelope } = reading;
    const refusal = await this.#refusalOf(delivery, command, envelope);
    if (refusal !== undefined) return [answerRefused(receipt, refusal)];

    const attempt = await this.#attempts.begin(delivery);
    if (attempt > QUARANTINE_AFTER) {
      await bus.deadLetter(delivery);
      bus.publishEvent('quarantined', `Command ${delivery.id} is quarantined`, { command_id: delivery.id });
      return [answerQuarantined(receipt, attempt - 1)];
    }
    return this.#apply(turn, command, envelope, receipt, log.child({ attempt }));
  }

  /** Why the command may not run, by its place in the stream, its generation and its age; undefined if it may. */
  async #refusalOf(delivery: Delivery, { verb }: Command, envelope: Envelope): Promise<AdmissionRefusal | undefined> {
    const { bus, journal, serverNow } = this.#options;
    const continuity = continuityOfMessage(delivery, journal.stream);
    await noteRewind(continuity, this.#options);
    if (continuity === 'lies-before') return LIES_BEFORE;
    const refusal = refusalOf(verb, envelope, journal, serverNow());
    if (refusal?.code === 'GENERATION_GAP') bus.publishEvent('resync-required', refusal.message);
    return refusal;
  }

  async #apply(
    turn: Turn,
    command: Command,
    envelope: Envelope,
    receipt: Receipt,
    log: Logger,
  ): Promise<AnsweredCommand> {
    const { host, journal, rules, serverNow, signal } = this.#options;
    const observed = await host.observe(turn, [journal.desired, command.verb === 'delete' ? null : command]);
    let desired: DesiredState;
    try {
      desired = wantedBy(command, journal.desired, observed, rules);
    } catch (error) {
      return [answerRejected(receipt, error)];
    }
    const absent = command.verb === 'delete' ? [] : absentInterfaces(command, observed);
    if (absent.length > 0) return [answerFailed(receipt, new RefusedError(absent as [Fault, ...Fault[]]))];

    log.info('applying command');
    const limits = { deadline: deadlineOf(envelope, serverNow), named: companionsNamedBy(command), signal, observed };
    const report = await host.apply(turn, journal.desired, desired, log, limits);
    const answer = answerReported(receipt, command, report);
    if (report.status === 'failed') return [answer];
    const { gen } = envelope;
    const generation = gen === undefined ? {} : { generation: gen };
    return [answer, { desired, ...generation, clearsAwait: command.verb === 'deploy' }];
  }

  #told(answer: Acknowledgement, seconds: number, log: Logger): void {
    const { verb, status, code, message, duration_ms } = answer;
    this.#lastAnswer = answer;
    this.#options.metrics.commandFinished(verb, status, seconds);
    if (code === undefined) log.info({ status, duration_ms }, 'command answered');
    else log.warn({ status, code, reason: message, duration_ms }, 'command answered');
  }
}

const LIES_BEFORE: AdmissionRefusal = {
  status: 'superseded',
  code: 'SUPERSEDED',
  message: 'The command is older than one that was already handled',
};

/** A command is not tried any longer than until it expires. */
function deadlineOf({ expires }: Envelope, serverNow: () => number): number | undefined {
  return expires === undefined ? undefined : Date.now() + (expires.getTime() - serverNow());
}
