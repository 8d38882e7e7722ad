import { setTimeout as sleep } from 'node:timers/promises';
import { type Observer, rehearse, type Tools } from '../apply/executor.js';
import type { Command } from '../domain/command.js';
import type { ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import { hookKey } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Plan } from '../domain/plan.js';
import type { RestartPolicy } from '../domain/restarts.js';
import { type Fault, RefusedError } from '../errors.js';
import { absentInterfaces, check } from '../plan/check.js';
import type { PlanContext } from '../plan/context.js';
import { describeStep } from '../plan/describe.js';
import { plan } from '../plan/plan.js';
import { faultsOfFailure, type ReconcileRequest, type Report, reconcile } from '../reconcile.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { repairChains } from './chain-repair.js';
import { repairCompanions } from './companion-repair.js';
import { type CompanionNews, CompanionWatch, type WatchedCompanion } from './companion-watch.js';
import { HalfDone } from './half-done.js';
import { RepairPauses } from './repair-pauses.js';
import { countOutcomes, runningPrograms } from './running.js';

export interface HostOptions {
  readonly tools: Tools;
  readonly context: PlanContext;
  readonly metrics: Metrics;
  /** How companions that do not run are started again. */
  readonly restartPolicy: RestartPolicy;
  /** Told what runs and what is desired, after every look at the host. */
  readonly onLook?: (observed: Observed, desired: DesiredState) => void;
  /** Told of every step before it runs, beside the log. */
  readonly observer?: Observer;
}

/** How long something is tried, and for whom. */
export interface ApplyLimits {
  /** Until when what may pass by itself is tried again, in milliseconds since the epoch. */
  readonly deadline?: number | undefined;
  /** Companions that get a new chance, as `companionKey` gives them; absent: all. */
  readonly named?: ReadonlySet<string> | undefined;
  /** Ends the wait for the next attempt, and has no further one made. */
  readonly signal?: AbortSignal | undefined;
}

/** The agent is told to stop, and what it was to do is neither done nor impossible: it is as if it had not been begun. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(options?: ErrorOptions) {
    super('The agent is told to stop', options);
  }
}

/** How long a command may go on trying what may pass by itself, in milliseconds. */
const COMMAND_DEADLINE_MS = 60_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;

/** What was desired before a command, and by it. After one that has failed the former stays. */
interface ConcludedFor {
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
}

/** What a repair has come upon, and what it has done about it, each in sentences. */
export interface Repair {
  readonly found: readonly string[];
  readonly done: readonly string[];
  /** What became of companions, beside. */
  readonly news?: readonly CompanionNews[];
}

export function repairInWords({ found, done }: Pick<Repair, 'found' | 'done'>): string {
  return [...found, ...done].join('; ');
}

/** This machine's chains: brings them to a desired state and keeps them there. All methods are for the lane only. */
export class Host {
  readonly #options: HostOptions;
  readonly #watch: CompanionWatch;
  readonly #halfDone = new HalfDone();
  readonly #pauses = new RepairPauses();
  /** Faults that the last repair met, so that one that persists is logged once. */
  #knownFaults = '';

  constructor(options: HostOptions) {
    this.#options = options;
    const { tools, restartPolicy: policy } = options;
    this.#watch = new CompanionWatch({ companions: tools.companions, policy });
  }

  observeCompanions(): Promise<readonly ObservedCompanion[]> {
    return this.#options.tools.companions.observe();
  }

  /** The companions that are watched over, as of the last repair. */
  get watchedCompanions(): readonly WatchedCompanion[] {
    return this.#watch.watched;
  }

  observe(): Promise<Observed> {
    return this.#options.tools.datapath.observe();
  }

  /**
   * Brings the host from one desired state to the next, all or nothing. What may pass by itself is tried again with back-off until the
   * deadline, and for a minute at most, since nothing else happens on this host meanwhile. A companion that has been given up, or waits
   * to be started again, is left alone unless it is named.
   *
   * @throws Interrupted instead of trying again once the signal is aborted; all is then as it was before
   */
  async apply(
    before: DesiredState | null,
    desired: DesiredState,
    log: Logger,
    { deadline = Number.POSITIVE_INFINITY, named, signal }: ApplyLimits = {},
  ): Promise<Report> {
    const pass = this.#passes(log);
    this.#watch.forget(named);
    const exceptCompanions = this.#watch.resting;
    const end = Math.min(deadline, Date.now() + COMMAND_DEADLINE_MS);
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
      const report = await pass({ before: this.#halfDone.with(before), desired, exceptCompanions });
      this.#halfDone.note(report, desired);
      if (report.status !== 'failed') this.#pauses.over();
      const mayTryAgain = report.status === 'failed' && report.transient && report.undone === true;
      if (!mayTryAgain || Date.now() + wait > end) {
        this.#conclude(report, { before, desired }, log);
        return report;
      }
      if (signal?.aborted) throw new Interrupted({ cause: report.cause });
      log.warn({ faults: report.faults, retry_in_ms: wait }, 'transient fault, trying again');
      await sleep(wait, undefined, { signal }).catch((cause: unknown) => {
        throw new Interrupted({ cause });
      });
    }
  }

  /**
   * Brings the chains back to what is desired already. A hook that cannot be helped now does not keep the others from being helped,
   * and stays desired.
   *
   * @param before what the maps were given; null if a command may have died while it wrote them
   * @returns what was found and what was done, in words; empty if all was as desired
   * @throws Interrupted instead of starting a further companion once the signal is aborted: that can take long
   */
  async repair(
    desired: DesiredState,
    log: Logger,
    { before = desired, signal }: { before?: DesiredState | null; signal?: AbortSignal } = {},
  ): Promise<Repair> {
    const { metrics } = this.#options;
    if (this.#pauses.resting) return { found: [], done: [] };
    const given = this.#halfDone.with(before);
    const impossible = this.#impossibleHooks(desired);
    const pass = this.#repairPasses(log, signal);
    const chains = await repairChains({ before: given, desired, except: new Set(impossible.keys()) }, pass);
    const request = { before: given, desired, except: chains.leftAlone };
    const restored = await repairCompanions(request, chains.observed, { watch: this.#watch, metrics, log, pass });
    const reports = [...chains.reports, ...restored.reports];

    if (reports.some(({ status }) => status === 'failed')) this.#pauses.failed();
    else {
      this.#pauses.over();
      this.#halfDone.forget();
    }
    const ofReports = reports.flatMap((report) => report.faults);
    const faults = [...[...impossible.values()].flat(), ...ofReports, ...this.#watch.faults];
    this.#tellFaults(faults, log);
    const repaired = reports.filter((report) => report.status === 'applied');
    metrics.reconciled(faults.length > 0 ? 'failed' : repaired.length > 0 ? 'repaired' : 'unchanged');
    this.#updateRunning(reports.at(-1)?.observed ?? chains.observed, desired);
    const found = new Set(repaired.flatMap((report) => report.found));
    return { found: [...found], done: repaired.flatMap(({ reasons }) => reasons), news: restored.news };
  }

  /**
   * The plan of a command as it would be carried out now, having tried all of it that packets do not notice.
   *
   * @throws RefusedError what would make the command rejected; AgentError what would make it fail
   */
  async rehearse(before: DesiredState | null, command: Command): Promise<Plan> {
    const { tools, context } = this.#options;
    const observed = await this.observe();
    const desired = fold(before ?? NOTHING_DESIRED, command);
    const absent = command.verb === 'delete' ? [] : absentInterfaces(command, observed);
    const [first, ...rest] = [...check(desired, context), ...absent];
    if (first !== undefined) throw new RefusedError([first, ...rest]);
    const companions = await tools.companions.observe();
    const planned = plan({ observed, before, desired, companions }, context);
    const failure = await rehearse(planned, tools);
    if (failure !== undefined) throw new RefusedError(faultsOfFailure(failure, desired));
    return planned;
  }

  /** Takes every chain of ours down; what is desired stays recorded and comes back at the next start. */
  detachAll(log: Logger): Promise<Report> {
    return this.apply(NOTHING_DESIRED, NOTHING_DESIRED, log);
  }

  /** Chaining may have been switched off since they were asked for: hooks that cannot be as they are desired are left as they are. */
  #impossibleHooks(desired: DesiredState): ReadonlyMap<string, readonly Fault[]> {
    const faults = desired.chains.map(({ hook, programs }) => {
      const chain = { chains: [{ hook, programs }], addresses: {} };
      return [hookKey(hook), check(chain, this.#options.context)] as const;
    });
    return new Map(faults.filter(([, found]) => found.length > 0));
  }

  /** One pass over the host after the other, with every step logged. */
  #passes(log: Logger, onStep: Observer = () => {}): (request: ReconcileRequest) => Promise<Report> {
    const { tools, context, observer } = this.#options;
    return (request) =>
      reconcile(request, tools, context, async (step, phase) => {
        await onStep(step, phase);
        log.debug({ phase, step: describeStep(step) }, 'step');
        await observer?.(step, phase);
      });
  }

  #repairPasses(log: Logger, signal: AbortSignal | undefined): (request: ReconcileRequest) => Promise<Report> {
    const pass = this.#passes(log, ({ op }, phase) => {
      if (signal?.aborted && op === 'start-companion' && phase !== 'undo') throw new Interrupted();
      this.#options.metrics.repairing(op);
    });
    return async (request) => {
      const report = await pass(request);
      if (report.cause instanceof Interrupted) throw report.cause;
      return report;
    };
  }

  #conclude(report: Report, { before, desired }: ConcludedFor, log: Logger): void {
    const isFailed = report.status === 'failed';
    if (isFailed) log.error({ err: report.cause, undone: report.undone }, 'cannot apply');
    countOutcomes(report, desired, this.#options.metrics);
    this.#updateRunning(report.observed, isFailed && before !== null ? before : desired);
    for (const leftover of report.leftovers) log.warn({ leftover }, 'left over, to be cleaned up later');
  }

  #tellFaults(faults: readonly Fault[], log: Logger): void {
    const seen = faults.length === 0 ? '' : JSON.stringify(faults);
    if (seen !== '' && seen !== this.#knownFaults) log.error({ faults }, 'cannot bring the host to its desired state');
    if (seen === '' && this.#knownFaults !== '') log.info('the host is at its desired state again');
    this.#knownFaults = seen;
  }

  #updateRunning(observed: Observed, desired: DesiredState): void {
    this.#options.metrics.setRunning(runningPrograms(observed, desired));
    this.#options.onLook?.(observed, desired);
  }
}
