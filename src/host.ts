import { setTimeout as sleep } from 'node:timers/promises';
import { type Observer, rehearse, type Tools } from './apply/executor.js';
import type { Command } from './domain/command.js';
import type { ObservedCompanion } from './domain/companion.js';
import { type DesiredState, NOTHING_DESIRED } from './domain/desired.js';
import { fold } from './domain/fold.js';
import { hookKey } from './domain/hook.js';
import { hookAt, type Observed, standingChain } from './domain/observed.js';
import type { Plan } from './domain/step.js';
import { RefusedError } from './errors.js';
import { absentInterfaces, check } from './plan/check.js';
import type { PlanContext } from './plan/context.js';
import { describeStep } from './plan/describe.js';
import { plan } from './plan/plan.js';
import { type ReconcileRequest, type Report, reconcile } from './reconcile.js';
import type { Logger } from './telemetry/log.js';
import type { Metrics, ProgramLabels } from './telemetry/metrics.js';

export interface HostOptions {
  readonly tools: Tools;
  readonly context: PlanContext;
  readonly metrics: Metrics;
  /** Told of every step before it runs, beside the log. */
  readonly observer?: Observer;
}

/** How long a command may go on trying what may pass by itself, in milliseconds. */
const COMMAND_DEADLINE_MS = 60_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 5 * 60_000;

/** What a repair has come upon, and what it has done about it, each in sentences. */
export interface Repair {
  readonly found: readonly string[];
  readonly done: readonly string[];
}

export function repairInWords({ found, done }: Repair): string {
  return [...found, ...done].join('; ');
}

/** This machine's chains: brings them to a desired state and keeps them there. All methods are for the lane only. */
export class Host {
  readonly #options: HostOptions;
  /** Faults that the last repair met, so that one that persists is logged once. */
  #knownFaults = '';
  /** How long repairs rest after the last one, in milliseconds; 0 unless it failed. */
  #rest = 0;
  #restUntil = 0;
  /** What a command was to bring about that could not be taken back: maps may have values of it. */
  #halfDone: DesiredState | undefined;

  constructor(options: HostOptions) {
    this.#options = options;
  }

  observeCompanions(): Promise<readonly ObservedCompanion[]> {
    return this.#options.tools.companions.observe();
  }

  observe(): Promise<Observed> {
    return this.#options.tools.datapath.observe();
  }

  /**
   * Brings the host from one desired state to the next, all or nothing. What may pass by itself is tried again with back-off until
   * `deadline`, and for a minute at most, since nothing else happens on this host meanwhile.
   *
   * @param deadline milliseconds since the epoch
   */
  async apply(
    before: DesiredState | null,
    desired: DesiredState,
    log: Logger,
    deadline = Number.POSITIVE_INFINITY,
  ): Promise<Report> {
    const { tools, context } = this.#options;
    const end = Math.min(deadline, Date.now() + COMMAND_DEADLINE_MS);
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
      const report = await reconcile({ before: this.#mayHold(before), desired }, tools, context, this.#observer(log));
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
    const whole = await reconcile(chains, tools, context, this.#observer(log));
    let reports = [whole];
    if (whole.status === 'failed') {
      const hooks = [...desired.chains, ...whole.observed.hooks].map(({ hook }) => hookKey(hook));
      reports = [];
      for (const only of new Set(hooks.filter((hook) => !leftAlone.has(hook)))) {
        const except = new Set(hooks.filter((hook) => hook !== only));
        const report = await reconcile({ ...chains, except }, tools, context, this.#observer(log));
        reports.push(report);
        if (report.status === 'failed') leftAlone.add(only);
      }
    }
    reports.push(...(await this.#restoreCompanions({ before: given, desired, except: leftAlone }, log)));
    const faults = [...impossible.map(({ fault }) => fault), ...reports.flatMap((report) => report.faults)];
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
    return { found: [...found], done: repaired.flatMap(({ reasons }) => reasons) };
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
  async #restoreCompanions(request: ReconcileRequest, log: Logger): Promise<readonly Report[]> {
    const { tools, context } = this.#options;
    if (!request.desired.chains.some(({ programs }) => programs.some(({ companion }) => companion))) return [];
    const failed: Report[] = [];
    const exceptCompanions = new Set<string>();
    for (;;) {
      const report = await reconcile({ ...request, exceptCompanions }, tools, context, this.#observer(log));
      if (report.status !== 'failed') return [...failed, report];
      failed.push(report);
      if (report.culprit === undefined || exceptCompanions.has(report.culprit)) return failed;
      exceptCompanions.add(report.culprit);
    }
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
    };
  }

  #observer(log: Logger): Observer {
    return async (step, phase) => {
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
      if (result !== 'failed' || !report.observed.interfaces.has(hook.iface)) continue;
      const stands = standingChain(hookAt(report.observed, hook)).some((generation) => generation.name === name);
      if (stands) metrics.updateFailed(labels);
      else metrics.deployFailed(labels);
    }
  }

  #updateRunning(observed: Observed, desired: DesiredState): void {
    const running = observed.hooks.flatMap((at) =>
      standingChain(at).map(({ name, versionSegment, hook }) => {
        const chain = desired.chains.find((other) => hookKey(other.hook) === hookKey(hook));
        const version = chain?.programs.find((program) => program.name === name)?.version ?? versionSegment;
        return { ...labelsOf(name, hook, desired), version };
      }),
    );
    this.#options.metrics.setRunning(running);
  }
}

function labelsOf(program: string, hook: { iface: string; direction: string }, desired: DesiredState): ProgramLabels {
  return { program, ...hook, address: desired.addresses[hook.iface] ?? '' };
}
