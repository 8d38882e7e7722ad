import type { Lane, Turn } from '../apply/lane.js';
import type { Config } from '../config.js';
import { LinkEvents } from '../datapath/link-events.js';
import { type DesiredState, desiredPlaces } from '../domain/desired.js';
import type { Observed } from '../domain/observed.js';
import type { PackageRef } from '../domain/program.js';
import type { EventKind } from '../messages/events.js';
import type { PlanContext } from '../plan/context.js';
import { Interrupted, type Repair, repairInWords } from '../reconcile/host.js';
import type { Logger } from '../telemetry/log.js';
import type { Background } from './background.js';
import type { Foundation } from './foundation.js';
import { rootPackages } from './roots.js';

export interface UpkeepOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly base: Pick<Foundation, 'journal' | 'packages' | 'context' | 'host'>;
  readonly lane: Lane;
  readonly background: Background;
  /** Whether the agent's foundation still exists. If not, the agent ends. */
  readonly stands: () => Promise<boolean>;
  /** Whether the kernel reports interfaces that appear and disappear. */
  readonly watchesLinks: boolean;
  /** Once aborted, no further repair begins, and the current one starts no further companion. */
  readonly signal: AbortSignal;
  /** Publishes an event, once the bus is joined. */
  readonly publishEvent: (kind: EventKind, message: string, data?: Record<string, unknown>) => void;
}

const LINK_EVENTS_SETTLE_MS = 100;
/** Unused packages are kept for a while, because a roll-back may need them. */
const COLLECT_INTERVAL_MS = 60 * 60 * 1000;

/**
 * Keeps the host in its desired state between commands. It repairs at intervals and when interfaces appear or
 * disappear.
 */
export class Upkeep {
  readonly #options: UpkeepOptions;
  #repairPending = false;
  /** What the first repair did, kept until the bus is joined. */
  #repairedAtStart: Repair = { found: [], done: [] };
  #isAdopted = false;
  #foreignLinks: readonly string[] = [];

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** Resolves when the host is in its recorded state. From then on it is kept there. */
  async start(): Promise<void> {
    const { config, log, lane, background, watchesLinks, signal } = this.#options;
    await this.#repair();
    if (signal.aborted) return;
    background.every(config.reconcileInterval, () => this.#repair());
    background.every(COLLECT_INTERVAL_MS, () => lane.run((turn) => this.#collectPackages(turn)));
    if (!watchesLinks) return;
    const linkEvents = new LinkEvents({ onChange: () => this.#repairSoon(), log });
    signal.addEventListener('abort', () => linkEvents.stop(), { once: true });
    linkEvents.start();
  }

  /** Publishes what was found on the host at the start. */
  tellAdoption(): void {
    const programs =
      this.#options.base.host.latest?.hooks.flatMap(({ loadedPrograms }) => loadedPrograms.map(({ name }) => name)) ??
      [];
    if (programs.length === 0) return;
    const { found, done: repairs } = this.#repairedAtStart;
    const mended = repairs.length === 0 ? '' : ` after repairs: ${repairInWords(this.#repairedAtStart)}`;
    const message = `Adopted ${programs.length} programs${mended}`;
    this.#options.publishEvent('adopted', message, { programs, found, repairs });
  }

  /**
   * Compares observed and desired state, and repairs the differences. If the desired state is unknown, nothing is
   * touched.
   */
  async #repair(): Promise<void> {
    const { base, lane, log, signal, stands } = this.#options;
    await lane.run(async (turn) => {
      if (signal.aborted || !(await stands())) return;
      const first = !this.#isAdopted;
      let observed: Observed;
      try {
        observed = (await this.#mend(turn, first)) ?? (await base.host.observe(turn));
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
        return log.info('the agent stops before the repair is complete; the next one continues it');
      }
      this.#isAdopted = true;
      this.#warnOfForeignLinks(observed);
      if (first) this.#logAdoption(observed);
    });
  }

  /** @returns the host afterwards; undefined if there was nothing to do or nothing that could be done yet */
  async #mend(turn: Turn, first: boolean): Promise<Observed | undefined> {
    const { base, log, signal, publishEvent } = this.#options;
    const { journal, host } = base;
    const { desired } = journal;
    if (desired === null) return undefined;
    const before = first && journal.unfinished ? null : desired;
    const repaired = await host.repair(turn, desired, log.child({ op: 'reconcile' }), { before, signal });
    const { found, done: repairs, news = [], observed } = repaired;
    if (repairs.length > 0) {
      log.warn({ found, repairs }, 'repaired drift');
      if (first) this.#repairedAtStart = repaired;
      else publishEvent('drift-repaired', repairInWords(repaired), { found, repairs });
    }
    for (const { kind, message, data } of news) publishEvent(kind, message, data);
    return observed;
  }

  /** Once for each set of them. */
  #warnOfForeignLinks({ foreignLinks: paths = [] }: Observed): void {
    const isNews = paths.join() !== this.#foreignLinks.join();
    this.#foreignLinks = paths;
    if (isNews && paths.length > 0)
      this.#options.log.warn({ paths }, 'links are pinned here that the agent does not make');
  }

  #logAdoption({ hooks }: Observed): void {
    const { config, log, base } = this.#options;
    const programs = hooks.flatMap(({ loadedPrograms }) => loadedPrograms).length;
    log.info(
      { programs, chaining: config.chaining, desired: base.journal.desired?.chains.length ?? null },
      'adopted running programs',
    );
  }

  /** Changes to interfaces come in bursts. All within a moment cause one repair. */
  #repairSoon(): void {
    if (this.#repairPending) return;
    this.#repairPending = true;
    setTimeout(async () => {
      this.#repairPending = false;
      await this.#options.background.attempt(() => this.#repair());
    }, LINK_EVENTS_SETTLE_MS).unref();
  }

  async #collectPackages(turn: Turn): Promise<void> {
    turn.assertHeld();
    const { journal, packages, context } = this.#options.base;
    const { desired } = journal;
    if (desired === null) return;
    await packages.collect(packagesInUse(desired, context.roots));
  }
}

/** The packages that must not be deleted: those of all desired programs, disabled or not, and of the roots. */
export function packagesInUse(desired: DesiredState, roots: PlanContext['roots']): readonly PackageRef[] {
  return [...desiredPlaces(desired).flatMap(({ programs }) => programs), ...rootPackages(roots)];
}
