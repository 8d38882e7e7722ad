import { setTimeout as sleep } from 'node:timers/promises';
import { type Observer, rehearse, type Tools } from './apply/executor.js';
import { type CompanionNews, CompanionWatch, type WatchedCompanion } from './companion-watch.js';
import type { Command } from './domain/command.js';
import type { ObservedCompanion } from './domain/companion.js';
import { type DesiredState, NOTHING_DESIRED, probesOf } from './domain/desired.js';
import { fold } from './domain/fold.js';
import { hookKey, NO_HOOK } from './domain/hook.js';
import type { Observed } from './domain/observed.js';
import type { RestartPolicy } from './domain/restarts.js';
import type { Plan } from './domain/step.js';
import { type Fault, RefusedError } from './errors.js';
import { absentInterfaces, check } from './plan/check.js';
import type { PlanContext } from './plan/context.js';
import { describeStep } from './plan/describe.js';
import { plan } from './plan/plan.js';
import { type ReconcileRequest, type Report, reconcile } from './reconcile.js';
import { labelsOf, runningPrograms, standsAt } from './running.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics } from './telemetry/metrics.js';

export interface HostOptions {
  readonly tools: Tools;
  readonly context: PlanContext;
  readonly metrics: Metrics;
  /** How companions that do not run are started again; the settings' defaults unless given. */
  readonly restartPolicy?: RestartPolicy;
  /** Told what runs and what is desired, after every look at the host. */
  readonly onLook?: (observed: Observed, desired: DesiredState) => void;
  /** Told of every step before it runs, beside the log. */
  readonly observer?: Observer;
}

/** How long a command may go on trying what may pass by itself, in milliseconds. */
const COMMAND_DEADLINE_MS = 60_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 5 * 60_000;
const RESTARTS: RestartPolicy = { maxRestarts: 5, windowMs: 10 * 60_000, backOffMs: 10_000 };

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
  /** Faults that the last repair met, so that one that persists is logged once. */
  #knownFaults = '';
  /** How long repairs rest after the last one, in milliseconds; 0 unless it failed. */
  #rest = 0;
  #restUntil = 0;
  /** What a command was to bring about that could not be taken back: maps may have values of it. */
  #halfDone: DesiredState | undefined;

  constructor(options: HostOptions) {
    this.#options = options;
    const { tools, restartPolicy: policy = RESTARTS } = options;
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
   * Brings the host from one desired state to the next, all or nothing. What may pass by itself is tried again with back-off until
   * `deadline`, and for a minute at most, since nothing else happens on this host meanwhile. A companion that has been given up, or waits
   * to be started again, is left alone unless it is named.
   *
   * @param deadline milliseconds since the epoch
   * @param named companions that get a new chance, as `companionKey` gives them; absent: all
   */
  async apply(
    before: DesiredState | null,
    desired: DesiredState,
    log: Logger,
    deadline = Number.POSITIVE_INFINITY,
    named?: ReadonlySet<string>,
  ): Promise<Report> {
    const { tools, context } = this.#options;
    this.#watch.forget(named);
    const exceptCompanions = this.#watch.resting;
    const end = Math.min(deadline, Date.now() + COMMAND_DEADLINE_MS);
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
      const request = { before: this.#mayHold(before), desired, exceptCompanions };
      const report = await reconcile(request, tools, context, this.#observer(log));
      if (report.status !== 'failed') [this.#halfDone, this.#rest, this.#restUntil] = [undefined, 0, 0];
      else if (report.undone === false) this.#halfDone = desired;
      const mayTryAgain = report.status === 'failed' && report.transient && report.undone === true;
      if (!mayTryAgain || Date.now() + wait > end) {
        if (report.status === 'failed') log.error({ err: report.cause, undone: report.undone }, 'cannot apply');
        this.#count(report, desired);
        this.#updateRunning(report.observed, desired);
        for (const leftover of report.leftovers) log.warn({ leftover }, 'left over, to be cleaned up later');
        return report;
      }
      log.warn({ faults: report.faults, retry_in_ms: wait }, 'transient fault, trying again');
      await sleep(wait);
    }
  }

  /**
   * Brings the chains back to what is desired already. A hook that cannot be helped now does not keep the others from being helped,
   * and stays desired. After a repair that failed, the next ones rest for longer and longer, so that commands get their turn.
   *
   * @param before what the maps were given; null if a command may have died while it wrote them
   * @returns what was found and what was done, in words; empty if all was as desired
   */
  async repair(desired: DesiredState, log: Logger, before: DesiredState | null = desired): Promise<Repair> {
    const { tools, context, metrics } = this.#options;
    if (Date.now() < this.#restUntil) return { found: [], done: [] };
    const given = this.#mayHold(before);
    // Chaining may have been switched off since: a hook that cannot be as it is desired is left as it is.
    const impossible = desired.chains.flatMap(({ hook, programs }) => {
      const found = check({ chains: [{ hook, programs }], addresses: {} }, context);
      return found.map((fault) => ({ hook: hookKey(hook), fault }));
    });
    const leftAlone = new Set(impossible.map(({ hook }) => hook));
    const chains = { before: given, desired, except: leftAlone, chainsOnly: true };
    const whole = await reconcile(chains, tools, context, this.#observer(log, true));
    let reports = [whole];
    if (whole.status === 'failed') {
      const hooks = [...desired.chains, ...whole.observed.hooks, { hook: NO_HOOK }].map(({ hook }) => hookKey(hook));
      reports = [];
      for (const only of new Set(hooks.filter((hook) => !leftAlone.has(hook)))) {
        const except = new Set(hooks.filter((hook) => hook !== only));
        const report = await reconcile({ ...chains, except }, tools, context, this.#observer(log, true));
        reports.push(report);
        if (report.status === 'failed') leftAlone.add(only);
      }
    }
    const observed = reports.at(-1)?.observed ?? whole.observed;
    const restored = await this.#restoreCompanions({ before: given, desired, except: leftAlone }, observed, log);
    const { news } = restored;
    reports.push(...restored.reports);
    const faults = [
      ...impossible.map(({ fault }) => fault),
      ...reports.flatMap((report) => report.faults),
      ...this.#watch.faults,
    ];
    this.#rest = reports.some(({ status }) => status === 'failed')
      ? Math.min(2 * this.#rest + FIRST_REST_MS, LONGEST_REST_MS)
      : 0;
    this.#restUntil = Date.now() + this.#rest;
    if (this.#rest === 0) this.#halfDone = undefined;
    const seen = JSON.stringify(faults);
    if (faults.length > 0 && seen !== this.#knownFaults)
      log.error({ faults }, 'cannot bring the host to its desired state');
    if (faults.length === 0 && this.#knownFaults !== '') log.info('the host is at its desired state again');
    this.#knownFaults = faults.length === 0 ? '' : seen;
    const repaired = reports.filter((report) => report.status === 'applied');
    metrics.reconciled(faults.length > 0 ? 'failed' : repaired.length > 0 ? 'repaired' : 'unchanged');
    this.#updateRunning(reports.at(-1)?.observed ?? whole.observed, desired);
    const found = new Set(repaired.flatMap((report) => report.found));
    return { found: [...found], done: repaired.flatMap(({ reasons }) => reasons), news };
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
    if (failure !== undefined) throw failure.error;
    return planned;
  }

  /** Takes every chain of ours down; what is desired stays recorded and comes back at the next start. */
  detachAll(log: Logger): Promise<Report> {
    return this.apply(NOTHING_DESIRED, NOTHING_DESIRED, log);
  }

  /** Once their chains stand, and each for itself: one that cannot be started keeps neither its chain nor the others from being there. */
  async #restoreCompanions(
    request: ReconcileRequest & { readonly except: ReadonlySet<string> },
    observed: Observed,
    log: Logger,
  ): Promise<{ reports: readonly Report[]; news: readonly CompanionNews[] }> {
    const { tools, context, metrics } = this.#options;
    const { desired, except } = request;
    const chains = desired.chains.filter(({ hook }) => !except.has(hookKey(hook)));
    const { due, resting, news } = await this.#watch.look({ ...desired, chains }, observed);
    const reports: Report[] = [];
    const failed = new Map<string, Fault>();
    const exceptCompanions = new Set(resting);
    const hasAny = chains.some(({ programs }) => programs.some(({ companion }) => companion));
    for (let again = hasAny; again; ) {
      const passing = { ...request, exceptCompanions, revivals: due };
      const report = await reconcile(passing, tools, context, this.#observer(log, true));
      const { status, culprit } = report;
      again = status === 'failed' && culprit !== undefined && !exceptCompanions.has(culprit);
      if (again) exceptCompanions.add(culprit!);
      // When to try those again is the watch's business.
      if (again && due.has(culprit!)) failed.set(culprit!, report.faults[0]!);
      else reports.push(report);
    }
    const restarted = await this.#watch.noteStarts(due, failed);
    for (const { companion } of restarted) {
      metrics.companionRestarted(labelsOf(companion.package.name, companion.hook, desired));
    }
    metrics.setCompanions(
      this.#watch.watched.map(({ hook, package: { name }, condition }) => ({
        ...labelsOf(name, hook, desired),
        condition,
      })),
    );
    for (const { data } of restarted) log.info(data, 'started a companion again');
    for (const { data } of news) log.error(data, 'gave up a companion');
    return { reports, news: [...news, ...restarted] };
  }

  /** What the maps may have been given: what counts as applied, or what a command wrote that could not be taken back. */
  #mayHold(before: DesiredState | null): DesiredState | null {
    if (before === null || this.#halfDone === undefined) return before;
    const chains = [...this.#halfDone.chains, ...before.chains];
    const hooks = new Map(chains.map(({ hook }) => [hookKey(hook), hook]));
    return {
      chains: [...hooks].map(([key, hook]) => ({
        hook,
        programs: chains.filter((chain) => hookKey(chain.hook) === key).flatMap(({ programs }) => programs),
      })),
      addresses: before.addresses,
      probes: [...probesOf(this.#halfDone), ...probesOf(before)],
    };
  }

  #observer(log: Logger, repairing = false): Observer {
    return async (step, phase) => {
      if (repairing) this.#options.metrics.repairing(step.op);
      log.debug({ phase, step: describeStep(step) }, 'step');
      await this.#options.observer?.(step, phase);
    };
  }

  #count(report: Report, desired: DesiredState): void {
    const { metrics } = this.#options;
    for (const { hook, name, result } of report.outcomes) {
      const labels = labelsOf(name, hook, desired);
      if (result === 'started') metrics.programStarted(labels);
      if (result === 'stopped') metrics.programStopped(labels);
      if (result === 'updated' || result === 'moved') metrics.programUpdated(labels);
      // One that waits for its interface has not failed at anything.
      if (result !== 'failed' || !(hook.direction === '' || report.observed.interfaces.has(hook.iface))) continue;
      const stands = standsAt(hook, report.observed).some((generation) => generation.name === name);
      if (stands) metrics.updateFailed(labels);
      else metrics.deployFailed(labels);
    }
  }

  #updateRunning(observed: Observed, desired: DesiredState): void {
    this.#options.metrics.setRunning(runningPrograms(observed, desired));
    this.#options.onLook?.(observed, desired);
  }
}
