import type { CompanionControl } from '../apply/executor.js';
import type { Turn } from '../apply/lane.js';
import type { Command } from '../domain/command.js';
import { type CompanionRef, companionKey, type ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, desiredPlaces } from '../domain/desired.js';
import { type Hook, hookKey, isTracing, TRACING } from '../domain/hook.js';
import { hookAt, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import type { Program } from '../domain/program.js';
import {
  type CompanionCondition,
  type CompanionHealth,
  type CompanionHistory,
  judge,
  newHistory,
  type RestartPolicy,
} from '../domain/restarts.js';
import type { Fault } from '../errors.js';
import type { EventKind } from '../messages/events.js';
import type { Revival } from '../plan/context.js';
import { isWhole } from '../plan/tracing/probes.js';

export interface CompanionWatchOptions {
  readonly companions: CompanionControl;
  readonly policy: RestartPolicy;
  /** Monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

/** The result of one check of the companions. */
export interface Look {
  /** To start now, by {@link companionKey}. */
  readonly due: ReadonlyMap<string, Revival>;
  /** To leave alone, as {@link companionKey} gives them. */
  readonly resting: ReadonlySet<string>;
  readonly news: readonly CompanionNews[];
}

/** Something that happened to a companion without a command. An event reports it. */
export interface CompanionNews {
  readonly kind: Extract<EventKind, `companion-${string}`>;
  readonly companion: WatchedCompanion;
  /** One sentence for operators. */
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface WatchedCompanion extends CompanionRef {
  readonly version: string;
  readonly condition: CompanionCondition;
  readonly restarts: number;
  /** Why the last attempt to start it failed. */
  readonly fault?: Fault;
}

interface WatchEntry {
  readonly hook: Hook;
  readonly program: Program;
  readonly history: CompanionHistory;
  readonly fault?: Fault;
}

/**
 * Watches the companions of running programs. At each check it decides which of them is started again, which waits, and
 * which is given up. It keeps its state only in memory, so the next agent tries everything again.
 */
export class CompanionWatch {
  readonly #companions: CompanionControl;
  readonly #policy: RestartPolicy;
  readonly #now: () => number;
  #entries: ReadonlyMap<string, WatchEntry> = new Map();

  constructor({ companions, policy, now = () => performance.now() }: CompanionWatchOptions) {
    this.#companions = companions;
    this.#policy = policy;
    this.#now = now;
  }

  /** Every companion that should run, as of the last check. */
  get watched(): readonly WatchedCompanion[] {
    return [...this.#entries.values()].map(watchedOf);
  }

  /** One fault for each companion that does not run. */
  get faults(): readonly Fault[] {
    return this.watched.flatMap(({ hook, package: { name }, condition, fault }) => {
      if (condition === 'running') return [];
      const where = `the companion of ${name}${at(hook)}`;
      const message = condition === 'waiting' ? `Waits to start ${where} again` : `Gave up ${where}`;
      return [fault ?? { code: 'COMPANION_FAILED', message }];
    });
  }

  /** Those that do not run and must not be started now, as {@link companionKey} gives them. */
  get resting(): ReadonlySet<string> {
    return new Set([...this.#entries].filter(([, { history }]) => history.condition !== 'running').map(([key]) => key));
  }

  /**
   * Gives companions a new chance, because a command asks for them.
   *
   * @param keys as {@link companionKey} gives them; absent: all
   */
  forget(turn: Turn, keys?: ReadonlySet<string>): void {
    turn.assertHeld();
    this.#entries = new Map([...this.#entries].filter(([key]) => keys !== undefined && !keys.has(key)));
  }

  /**
   * Checks the companion of each running program, with `cmd_status` if it has one. The history already counts the due
   * ones as started.
   */
  async look(turn: Turn, desired: DesiredState, observed: Observed): Promise<Look> {
    turn.assertHeld();
    const found = new Map((await this.#inUse(observed)).map((one) => [companionKey(one.launch), one]));
    const expected = expectedAt(desired, observed);
    const healths = await Promise.all(
      expected.map(async (ref) => ({ ...ref, health: await this.#healthOf(ref, found.get(keyOf(ref))) })),
    );
    const now = this.#now();
    const entries = new Map<string, WatchEntry>();
    const due = new Map<string, Revival>();
    const news: CompanionNews[] = [];
    for (const { hook, program, health } of healths) {
      const key = keyOf({ hook, program });
      const known = this.#entries.get(key);
      const before = known?.history ?? newHistory(now, found.get(key)?.restarts ?? 0);
      const judgement = judge(before, health, now, this.#policy);
      const { action, history } = judgement;
      const fault = health === 'running' ? undefined : known?.fault;
      const entry: WatchEntry = { hook, program, history, ...(fault !== undefined && { fault }) };
      entries.set(key, entry);
      if (action === 'start') due.set(key, { why: judgement.why, restarts: history.restarts });
      if (action === 'give-up') news.push(newsOf('companion-given-up', entry, judgement.why));
    }
    this.#entries = entries;
    const resting = new Set([...this.resting].filter((key) => !due.has(key)));
    return { due, resting, news };
  }

  /**
   * Records the result of starting those that were due.
   *
   * @param faults why they could not be started, by {@link companionKey}
   * @returns news about those that run again
   */
  async noteStarts(
    turn: Turn,
    due: Look['due'],
    faults: ReadonlyMap<string, Fault>,
  ): Promise<readonly CompanionNews[]> {
    turn.assertHeld();
    if (due.size === 0) return [];
    const running = new Set(
      (await this.#companions.observe())
        .filter(({ state }) => state !== 'ended')
        .map(({ launch }) => companionKey(launch)),
    );
    const entries = new Map(this.#entries);
    const news: CompanionNews[] = [];
    for (const [key, { why, restarts }] of due) {
      const entry = entries.get(key);
      if (entry === undefined) continue;
      const { fault: _, ...rest } = entry;
      const fault = faults.get(key);
      const up = fault === undefined && running.has(key);
      const next: WatchEntry = up
        ? { ...rest, history: { ...rest.history, condition: 'running' } }
        : { ...rest, ...(fault !== undefined && { fault }) };
      entries.set(key, next);
      // The first start after a boot is not news for an operator.
      if (up && restarts > 0) news.push(newsOf('companion-restarted', next, why));
    }
    this.#entries = entries;
    return news;
  }

  /**
   * The companions without those whose programs packets no longer pass. A companion that has loaded such a program has
   * yet to be stopped.
   */
  async #inUse(observed: Observed): Promise<readonly ObservedCompanion[]> {
    const standing = new Set(observed.hooks.flatMap(standingChain).map(({ dir }) => dir));
    return (await this.#companions.observe()).filter(({ loaded }) => loaded === undefined || standing.has(loaded));
  }

  async #healthOf({ hook, program }: Expected, found: ObservedCompanion | undefined): Promise<CompanionHealth> {
    if (found === undefined) return 'absent';
    if (found.state === 'ended') return 'ended';
    if (found.state === 'done' || program.companion?.cmdStatus === '') return 'running';
    return (await this.#companions.status({ hook, package: program }, found.loaded)) === 'running'
      ? 'running'
      : 'silent';
  }
}

interface Expected {
  readonly hook: Hook;
  readonly program: Program;
}

/**
 * The companions that a command names, as {@link companionKey} gives them. Undefined for a deploy, which concerns all.
 */
export function companionsNamedBy(command: Command): ReadonlySet<string> | undefined {
  if (command.verb === 'deploy') return undefined;
  const named =
    command.verb === 'add'
      ? desiredPlaces(command).flatMap(({ hook, programs }) => programs.map(({ name }) => ({ hook, name })))
      : [...command.targets, { hook: TRACING, names: command.probes ?? [] }].flatMap(({ hook, names }) =>
          names.map((name) => ({ hook, name })),
        );
  return new Set(named.map(({ hook, name }) => companionKey({ hook, package: { name } })));
}

/** The programs whose companions should run: those that run themselves. */
function expectedAt(desired: DesiredState, observed: Observed): Expected[] {
  return desiredPlaces(desired).flatMap(({ hook, programs }) => {
    const there = isTracing(hook) ? observedProbes(observed).filter(isWhole) : standingChain(hookAt(observed, hook));
    const standing = new Set(there.map(({ name }) => name));
    return programs
      .filter(({ companion, enabled, name }) => companion !== undefined && enabled && standing.has(name))
      .map((program) => ({ hook, program }));
  });
}

function at(hook: Hook): string {
  return isTracing(hook) ? '' : ` at ${hookKey(hook)}`;
}

function keyOf({ hook, program }: Expected): string {
  return companionKey({ hook, package: program });
}

function watchedOf({ hook, program, history, fault }: WatchEntry): WatchedCompanion {
  const { name, version } = program;
  const { condition, restarts } = history;
  return { hook, package: { name }, version, condition, restarts, ...(fault !== undefined && { fault }) };
}

function newsOf(kind: CompanionNews['kind'], entry: WatchEntry, why: string): CompanionNews {
  const companion = watchedOf(entry);
  const { hook, version, restarts, fault } = companion;
  const whose = `the companion of ${companion.package.name}${at(hook)}`;
  const message =
    kind === 'companion-restarted'
      ? `Started ${whose} again, restart ${restarts}: ${why}`
      : `Gave up ${whose}: ${why}; a command that names its program tries again`;
  const { name } = companion.package;
  const data = { program: name, ...hook, version, restarts, why, ...(fault !== undefined && { fault }) };
  return { kind, companion, message, data };
}
