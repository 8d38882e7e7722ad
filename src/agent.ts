import type { Lane } from './apply/lane.js';
import type { Delivery, Disposition } from './bus/delivery.js';
import {
  answerFailed,
  answerQuarantined,
  answerRefused,
  answerRejected,
  answerReported,
  finishOf,
  type Receipt,
} from './commands/answer.js';
import { Attempts, QUARANTINE_AFTER } from './commands/attempts.js';
import { takeBacklog } from './commands/backlog.js';
import type { CommandBus } from './commands/command-bus.js';
import { keyOf, readDelivery } from './commands/reading.js';
import { lookForRewind, noteRewind } from './commands/rewind.js';
import { wantedBy } from './commands/wanted.js';
import { type Envelope, type Refusal, refusalOf } from './domain/admission.js';
import type { Command } from './domain/command.js';
import { continuityOfMessage } from './domain/continuity.js';
import type { DesiredState } from './domain/desired.js';
import { type Fault, RefusedError } from './errors.js';
import { companionsNamedBy } from './host/companion-watch.js';
import { type Host, Interrupted } from './host/host.js';
import type { Acknowledgement } from './messages/ack.js';
import { absentInterfaces, type ChainRules } from './plan/check.js';
import type { Finish, Journal } from './store/journal.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics } from './telemetry/metrics.js';

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
  /** Aborted when the agent is told to stop: what would have to be tried again is given back. */
  readonly signal: AbortSignal;
  /** Whether what the agent stands on is still there; if not, the agent ends. */
  readonly stands: () => Promise<boolean>;
}

/** The answer to a command, and what it has changed. */
type Outcome = readonly [Acknowledgement, Pick<Finish, 'desired' | 'generation' | 'clearsAwait'>?];

/**
 * The way of a command: from the stream through the lane to the kernel, and its answer back. Effects are exactly once because outcome,
 * desired state and answer go to the journal in one write, and a command found there is answered from it.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #attempts: Attempts;
  #lastAnswer: Acknowledgement | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#attempts = new Attempts(options.journal);
  }

  /** The newest answer that this run of the agent gave. */
  get lastAnswer(): Acknowledgement | undefined {
    return this.#lastAnswer;
  }

  /** Catches up with what the stream holds for this host, in one reconcile where it can, and then takes commands as they come. */
  async start(): Promise<void> {
    await this.checkPosition();
    const onAnswer = (answer: Acknowledgement) => {
      this.#lastAnswer = answer;
    };
    const from = await takeBacklog({ ...this.#options, attempts: this.#attempts, onAnswer });
    await this.#options.bus.consume(from, (delivery) => this.handle(delivery));
  }

  /** To be called when no command is in hand any more, and the agent ends in order. */
  async stop(): Promise<void> {
    await this.#attempts.takeBack(this.#options.log);
  }

  /** Notices a stream that was put back to an earlier state or made anew. To be asked whenever the stream was out of sight. */
  checkPosition(): Promise<void> {
    return lookForRewind(this.#options);
  }

  /** Answers one delivery; resolves when the answer is stored in its stream, or when the agent stops and gives the delivery back. */
  async handle(delivery: Delivery): Promise<Disposition> {
    const { bus, journal, lane, metrics, log } = this.#options;
    const key = keyOf(delivery);
    if (journal.find(key)?.status !== undefined) await this.#answerAgain(delivery);
    else {
      const arrived = performance.now();
      const child = log.child({ op: delivery.id, verb: delivery.verb, seq: delivery.seq });
      const ran = await lane.run(async () => {
        metrics.commandWaited((performance.now() - arrived) / 1000);
        metrics.setQueueDepth(lane.depth);
        return this.#run(delivery, child);
      });
      if (!ran) return 'later';
    }
    await bus.flushOutbox();
    await bus.publishSnapshot();
    return journal.find(key)?.status === 'rejected' ? 'terminate' : 'done';
  }

  async #answerAgain(delivery: Delivery): Promise<void> {
    const { journal, metrics, log } = this.#options;
    const key = keyOf(delivery);
    const known = journal.find(key)!;
    metrics.redelivered();
    if (known.key.storedAt !== key.storedAt)
      log.warn({ op: key.id, first: known.key }, 'command id used a second time');
    // A store that was put back may have lost the answer; a stream that has it recognises it by its id.
    const { verb, status, answer } = known;
    if (known.acknowledged && status !== undefined && answer !== undefined)
      await journal.finish({ key, verb, status, outbox: answer });
  }

  /** @returns false when the agent was told to stop before there was an outcome: the next one begins the command again */
  async #run(delivery: Delivery, log: Logger): Promise<boolean> {
    const begun = performance.now();
    try {
      if (this.#options.signal.aborted || !(await this.#options.stands())) throw new Interrupted();
      const [answer, effect] = await this.#outcomeOf(delivery, log);
      await this.#options.journal.finish({ ...finishOf(keyOf(delivery), answer, this.#options), ...effect });
      this.#attempts.finished(delivery);
      this.#told(answer, (performance.now() - begun) / 1000, log);
      return true;
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      log.info('the agent stops before the command has an outcome; the next one begins it again');
      return false;
    }
  }

  async #outcomeOf(delivery: Delivery, log: Logger): Promise<Outcome> {
    const { bus, hostName } = this.#options;
    const reading = readDelivery(delivery, hostName);
    const receipt: Receipt = { host: hostName, delivery, gen: reading.envelope.gen, receivedAt: new Date() };
    if (!reading.ok) return [answerRejected(receipt, reading.error)];
    const { command, envelope } = reading;
    const refusal = await this.#refusalOf(delivery, command, envelope);
    if (refusal !== undefined) return [answerRefused(receipt, refusal)];

    const attempt = await this.#attempts.begin(delivery);
    if (attempt > QUARANTINE_AFTER) {
      await bus.deadLetter(delivery);
      bus.publishEvent('quarantined', `Command ${delivery.id} is put aside`, { command_id: delivery.id });
      return [answerQuarantined(receipt, attempt - 1)];
    }
    return this.#apply(command, envelope, receipt, log.child({ attempt }));
  }

  /** Whether the command may run, by its place in the stream, its generation and its age. */
  async #refusalOf(delivery: Delivery, { verb }: Command, envelope: Envelope): Promise<Refusal | undefined> {
    const { bus, journal, serverNow } = this.#options;
    const continuity = continuityOfMessage(delivery, journal.stream);
    await noteRewind(continuity, this.#options);
    if (continuity === 'lies-before') return LIES_BEFORE;
    const refusal = refusalOf(verb, envelope, journal, serverNow());
    if (refusal?.code === 'GENERATION_GAP') bus.publishEvent('resync-required', refusal.message);
    return refusal;
  }

  async #apply(command: Command, envelope: Envelope, receipt: Receipt, log: Logger): Promise<Outcome> {
    const { host, journal, rules, serverNow, signal } = this.#options;
    const observed = await host.observe();
    let desired: DesiredState;
    try {
      desired = wantedBy(command, journal.desired, observed, rules);
    } catch (error) {
      return [answerRejected(receipt, error)];
    }
    const absent = command.verb === 'delete' ? [] : absentInterfaces(command, observed);
    if (absent.length > 0) return [answerFailed(receipt, new RefusedError(absent as [Fault, ...Fault[]]))];

    log.info('applying command');
    const limits = { deadline: deadlineOf(envelope, serverNow), named: companionsNamedBy(command), signal };
    const report = await host.apply(journal.desired, desired, log, limits);
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

const LIES_BEFORE: Refusal = {
  status: 'superseded',
  code: 'SUPERSEDED',
  message: 'The command is older than one that was handled already',
};

/** A command that expires while it is being tried is not tried any longer. */
function deadlineOf({ expires }: Envelope, serverNow: () => number): number | undefined {
  return expires === undefined ? undefined : Date.now() + (expires.getTime() - serverNow());
}
