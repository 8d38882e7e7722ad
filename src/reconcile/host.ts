import { type Observer, rehearse, type Tools } from '../apply/executor.js';
import type { Turn } from '../apply/lane.js';
import type { Command } from '../domain/command.js';
import type { ObservedCompanion } from '../domain/companion.js';
import { cgroupsOf, type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import { foreignInWords } from '../domain/foreign.js';
import { hookKey } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { RestartPolicy } from '../domain/restarts.js';
import { type Fault, RefusedError } from '../errors.js';
import { absentInterfaces, check } from '../plan/check.js';
import type { PlanContext } from '../plan/context.js';
import { plan } from '../plan/plan.js';
import { pause, pauseAfter } from '../retry.js';
import { describeStep } from '../steps/describe.js';
import type { Plan } from '../steps/plan.js';
import { traitsOf } from '../steps/traits.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { repairChains } from './chain-repair.js';
import { repairCompanions } from './companion-repair.js';
import { type CompanionNews, CompanionWatch, type WatchedCompanion } from './companion-watch.js';
import { HalfDone } from './half-done.js';
import { withEntries } from './live-entries.js';
import { faultsOfFailure, type ReconcileRequest, type Report, reconcile } from './reconcile.js';
import { RepairPauses } from './repair-pauses.js';
import { countOutcomes, runningPrograms } from './running.js';

/** What a command would do. */
export interface Rehearsal {
  readonly planned: Plan;
  /** What somebody should know about it, as sentences. */
  readonly notes: readonly string[];
}

export interface HostOptions {
  readonly tools: Tools;
  readonly context: PlanContext;
  readonly metrics: Metrics;
  /** When companions that do not run are started again. */
  readonly restartPolicy: RestartPolicy;
  /** Called after every observation of the host, with the observed and the desired state. */
  readonly onLook?: (turn: Turn, observed: Observed, desired: DesiredState) => void;
  /** Called before every step, in addition to the log. */
  readonly observer?: Observer;
}

/** How long a command is tried, and for which companions. */
export interface ApplyLimits {
  /** Until when transient faults are tried again, in milliseconds since the epoch. */
  readonly deadline?: number | undefined;
  /** Companions that get a new chance, as `companionKey` gives them. Absent: all. */
  readonly named?: ReadonlySet<string> | undefined;
  /** Ends the wait for the next attempt. No further attempt follows. */
  readonly signal?: AbortSignal | undefined;
  /** What {@link Host.observe} has returned in the same turn for the states before and after; absent to observe again. */
  readonly observed?: Observed | undefined;
}

/**
 * Thrown when the agent stops while its task is neither done nor impossible. Everything is as if the task had not
 * started.
 */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(options?: ErrorOptions) {
    super('The agent is stopping', options);
  }
}

/** How long a command may retry transient faults, in milliseconds. */
const COMMAND_DEADLINE_MS = 60_000;
const BACKOFF = { firstMs: 500, capMs: 10_000 };

/** The desired state before a command and by it. If the command fails, the former stays. */
interface ConcludedFor {
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
}

/** What a repair has found and what it has done about it, as sentences. */
export interface Repair {
  readonly found: readonly string[];
  readonly done: readonly string[];
  /** What happened to companions. */
  readonly news?: readonly CompanionNews[];
  /** The host afterwards; absent if the repair has to wait, since the last one has failed. */
  readonly observed?: Observed;
}

export function repairInWords({ found, done }: Pick<Repair, 'found' | 'done'>): string {
  return [...found, ...done].join('; ');
}

/**
 * The chains of this host: brings them to a desired state and keeps them there. Each method checks that its turn is not
 * over.
 */
export class Host {
  readonly #options: HostOptions;
  readonly #watch: CompanionWatch;
  readonly #halfDone = new HalfDone();
  readonly #pauses = new RepairPauses();
  /** Faults of the last repair. A persistent fault is logged only once. */
  #knownFaults = '';
  #latest: Observed | undefined;

  constructor(options: HostOptions) {
    this.#options = options;
    const { tools, restartPolicy: policy } = options;
    this.#watch = new CompanionWatch({ companions: tools.companions, policy });
  }

  observeCompanions(turn: Turn): Promise<readonly ObservedCompanion[]> {
    turn.assertHeld();
    return this.#options.tools.companions.observe();
  }

  /** The watched companions, as of the last repair. */
  get watchedCompanions(): readonly WatchedCompanion[] {
    return this.#watch.watched;
  }

  /** The newest observation that was made in a turn, so that it shows no half-done state; undefined before the first. */
  get latest(): Observed | undefined {
    return this.#latest;
  }

  /** @param of desired or requested states; the observation tells which of their control groups exist */
  observe(turn: Turn, of: readonly (Pick<DesiredState, 'chains'> | null)[] = []): Promise<Observed> {
    turn.assertHeld();
    const cgroups = new Set(of.flatMap((state) => (state === null ? [] : cgroupsOf(state))));
    return this.#observe([...cgroups]);
  }

  async #observe(cgroups: readonly string[]): Promise<Observed> {
    this.#latest = await this.#options.tools.datapath.observe(cgroups);
    return this.#latest;
  }

  /**
   * Observes while another task may be in the middle of its steps. The result may be half done: use it for reports, not
   * for decisions.
   */
  observeOutOfTurn(): Promise<Observed> {
    return this.#options.tools.datapath.observe();
  }

  /**
   * Brings the host from one desired state to the next, all or nothing. Transient faults are retried with back-off
   * until the deadline, but for at most a minute, because nothing else happens on this host meanwhile. A companion that
   * was given up, or that waits to be started again, is left alone unless it is named.
   *
   * @throws Interrupted instead of trying again once the signal is aborted; everything is then as before
   */
  async apply(
    turn: Turn,
    before: DesiredState | null,
    desired: DesiredState,
    log: Logger,
    { deadline = Number.POSITIVE_INFINITY, named, signal, observed }: ApplyLimits = {},
  ): Promise<Report> {
    turn.assertHeld();
    const pass = this.#passes(turn, log);
    this.#watch.forget(turn, named);
    const exceptCompanions = this.#watch.resting;
    const end = Math.min(deadline, Date.now() + COMMAND_DEADLINE_MS);
    // retry() does not fit here: a failed pass returns a report and throws no error.
    for (let tries = 1; ; tries += 1) {
      const seen = tries === 1 && observed !== undefined ? { seen: observed } : {};
      const report = await pass({ before: this.#halfDone.with(before), desired, exceptCompanions, ...seen });
      this.#halfDone.note(report, desired);
      if (report.status !== 'failed') this.#pauses.over();
      const pauseMs = pauseAfter(tries, BACKOFF);
      const mayTryAgain = report.status === 'failed' && report.transient && report.undone === true;
      if (!mayTryAgain || Date.now() + pauseMs > end) {
        this.#conclude(turn, report, { before, desired }, log);
        return report;
      }
      if (signal?.aborted) throw new Interrupted({ cause: report.cause });
      log.warn({ faults: report.faults, pause_ms: pauseMs }, 'transient fault; trying again');
      await pause(pauseMs, signal);
      if (signal?.aborted) throw new Interrupted({ cause: report.cause });
    }
  }

  /**
   * Brings the chains back to the desired state. If one hook cannot be repaired now, the others still are, and it stays
   * desired.
   *
   * @param before the state whose `map_args` were written; null if a command may have died while it wrote them
   * @returns what was found and what was done, as sentences; empty if everything was as desired
   * @throws Interrupted instead of starting another companion once the signal is aborted, because a start can take long
   */
  async repair(
    turn: Turn,
    desired: DesiredState,
    log: Logger,
    { before = desired, signal }: { before?: DesiredState | null; signal?: AbortSignal } = {},
  ): Promise<Repair> {
    turn.assertHeld();
    const { metrics } = this.#options;
    if (this.#pauses.resting) return { found: [], done: [] };
    const given = this.#halfDone.with(before);
    const impossible = this.#impossibleHooks(desired);
    const pass = this.#repairPasses(turn, log, signal);
    const chains = await repairChains({ before: given, desired, except: new Set(impossible.keys()) }, pass);
    const request = { before: given, desired, except: chains.leftAlone };
    const restored = await repairCompanions(turn, request, chains.observed, { watch: this.#watch, metrics, log, pass });
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
    const observed = reports.at(-1)?.observed ?? chains.observed;
    this.#updateRunning(turn, observed, desired);
    const found = new Set(repaired.flatMap((report) => report.found));
    return { found: [...found], done: repaired.flatMap(({ reasons }) => reasons), news: restored.news, observed };
  }

  /**
   * The plan of a command as it would be applied now. Everything in it that packets do not notice has been tried.
   *
   * @throws RefusedError for what would reject the command; AgentError for what would make it fail
   */
  async rehearse(turn: Turn, before: DesiredState | null, command: Command): Promise<Rehearsal> {
    const { tools, context } = this.#options;
    const desired = fold(before ?? NOTHING_DESIRED, command);
    const observed = await withEntries(await this.observe(turn, [desired]), [desired, before], tools.datapath);
    const absent = command.verb === 'delete' ? [] : absentInterfaces(command, observed);
    const [first, ...rest] = [...check(desired, context), ...absent];
    if (first !== undefined) throw new RefusedError([first, ...rest]);
    const companions = await tools.companions.observe();
    const planned = plan({ observed, before, desired, companions }, context);
    const { failure, notes } = await rehearse(planned, tools);
    if (failure !== undefined) throw new RefusedError(faultsOfFailure(failure, desired));
    return { planned, notes: [...(await this.#notesOn(planned, desired)), ...notes] };
  }

  /** What is not ours at the hooks where a plan attaches. @throws RefusedError if it would make the plan fail */
  async #notesOn({ commit }: Plan, desired: DesiredState): Promise<readonly string[]> {
    const notes = new Map<string, readonly string[]>();
    for (const step of commit) {
      if (step.op !== 'attach') continue;
      const key = hookKey(step.hook);
      try {
        const foreign = await this.#options.tools.datapath.foreignAt(step.hook);
        notes.set(
          key,
          foreign.map((one) => `${key}: ${foreignInWords(one)}`),
        );
      } catch (error) {
        throw new RefusedError(faultsOfFailure({ step, error }, desired));
      }
    }
    return [...notes.values()].flat();
  }

  /** Removes all our chains. The desired state stays recorded and is restored at the next start. */
  detachAll(turn: Turn, log: Logger): Promise<Report> {
    return this.apply(turn, NOTHING_DESIRED, NOTHING_DESIRED, log);
  }

  /**
   * Hooks that cannot be as desired, for example because chaining was switched off since. They are left as they are.
   */
  #impossibleHooks(desired: DesiredState): ReadonlyMap<string, readonly Fault[]> {
    const faults = desired.chains.map(({ hook, programs }) => {
      const chain = { chains: [{ hook, programs }], addresses: {} };
      return [hookKey(hook), check(chain, this.#options.context)] as const;
    });
    return new Map(faults.filter(([, found]) => found.length > 0));
  }

  /** Makes the function that runs one pass over the host and logs every step. */
  #passes(turn: Turn, log: Logger, onStep: Observer = () => {}): (request: ReconcileRequest) => Promise<Report> {
    const { tools, context, observer } = this.#options;
    return (request) =>
      reconcile(turn, request, tools, context, async (step, phase) => {
        await onStep(step, phase);
        const { hook } = traitsOf(step);
        log.debug({ phase, ...(hook !== undefined && { hook: hookKey(hook) }), step: describeStep(step) }, 'step');
        await observer?.(step, phase);
      });
  }

  #repairPasses(
    turn: Turn,
    log: Logger,
    signal: AbortSignal | undefined,
  ): (request: ReconcileRequest) => Promise<Report> {
    const pass = this.#passes(turn, log, ({ op }, phase) => {
      if (signal?.aborted && op === 'start-companion' && phase !== 'undo') throw new Interrupted();
      this.#options.metrics.repairing(op);
    });
    return async (request) => {
      const report = await pass(request);
      if (report.cause instanceof Interrupted) throw report.cause;
      return report;
    };
  }

  #conclude(turn: Turn, report: Report, { before, desired }: ConcludedFor, log: Logger): void {
    const isFailed = report.status === 'failed';
    if (isFailed) log.error({ err: report.cause, undone: report.undone }, 'cannot apply');
    countOutcomes(report, desired, this.#options.metrics);
    this.#updateRunning(turn, report.observed, isFailed && before !== null ? before : desired);
    for (const leftover of report.leftovers) log.warn({ leftover }, 'could not clean up; the next pass tries again');
  }

  #tellFaults(faults: readonly Fault[], log: Logger): void {
    const seen = faults.length === 0 ? '' : JSON.stringify(faults);
    if (seen !== '' && seen !== this.#knownFaults) log.error({ faults }, 'cannot bring the host to its desired state');
    if (seen === '' && this.#knownFaults !== '') log.info('the host is at its desired state again');
    this.#knownFaults = seen;
  }

  #updateRunning(turn: Turn, observed: Observed, desired: DesiredState): void {
    this.#latest = observed;
    this.#options.metrics.setRunning(runningPrograms(observed, desired));
    this.#options.onLook?.(turn, observed, desired);
  }
}
