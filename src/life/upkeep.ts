import type { Lane } from '../apply/lane.js';
import type { Config } from '../config.js';
import { LinkEvents } from '../datapath/link-events.js';
import { type DesiredState, desiredPlaces } from '../domain/desired.js';
import type { Observed } from '../domain/observed.js';
import type { PackageRef } from '../domain/program.js';
import { Interrupted, type Repair, repairInWords } from '../host/host.js';
import type { EventKind } from '../messages/events.js';
import type { PlanContext } from '../plan/context.js';
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
  /** Whether what the agent stands on is still there; if not, the agent ends. */
  readonly stands: () => Promise<boolean>;
  /** Whether the kernel tells of interfaces that come and go. */
  readonly watchesLinks: boolean;
  /** Tells the bus, once it is joined. */
  readonly publishEvent: (kind: EventKind, message: string, data?: Record<string, unknown>) => void;
}

const LINK_EVENTS_SETTLE_MS = 100;
/** Packages that nothing asks for are kept for a while: a roll-back may want them. */
const COLLECT_INTERVAL_MS = 60 * 60 * 1000;

/** What keeps the host as it is desired while nobody commands anything: repairs, at intervals and when interfaces come or go. */
export class Upkeep {
  readonly #options: UpkeepOptions;
  #linkEvents: LinkEvents | undefined;
  #repairPending = false;
  readonly #stopping = new AbortController();
  /** What the first repair had to do, until the bus can be told. */
  #repairedAtStart: Repair = { found: [], done: [] };
  /** The newest observation, for the health page; a request on the bus makes one of its own. */
  #observed: Observed | undefined;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  get observed(): Observed | undefined {
    return this.#observed;
  }

  /** Takes up what somebody else has seen of the host. */
  note(observed: Observed): void {
    this.#observed = observed;
  }

  /** Resolves when the host is at its recorded state; from then on it is kept there. */
  async start(): Promise<void> {
    const { config, log, background, watchesLinks } = this.#options;
    await this.#repair();
    if (this.#stopping.signal.aborted) return;
    background.every(config.reconcileInterval, () => this.#repair());
    background.every(COLLECT_INTERVAL_MS, () => this.#collectPackages());
    if (!watchesLinks) return;
    this.#linkEvents = new LinkEvents({ onChange: () => this.#repairSoon(), log });
    this.#linkEvents.start();
  }

  /** Begins no further repair, and has the one in hand start no further companion. */
  stop(): void {
    this.#stopping.abort();
    this.#linkEvents?.stop();
  }

  /** Tells the bus what was found here at the start. */
  tellAdoption(): void {
    const programs = this.#observed?.hooks.flatMap(({ generations }) => generations.map(({ name }) => name)) ?? [];
    if (programs.length === 0) return;
    const { found, done: repairs } = this.#repairedAtStart;
    const mended = repairs.length === 0 ? '' : ` after repairs: ${repairInWords(this.#repairedAtStart)}`;
    const message = `Adopted ${programs.length} programs${mended}`;
    this.#options.publishEvent('adopted', message, { programs, found, repairs });
  }

  /** Compares what is with what is desired, and mends what differs. With no record of what is desired, nothing is touched. */
  async #repair(): Promise<void> {
    const { base, lane, log, stands } = this.#options;
    await lane.run(async () => {
      if (this.#stopping.signal.aborted || !(await stands())) return;
      const first = this.#observed === undefined;
      try {
        await this.#mend(first);
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
        return log.info('the agent stops before the repair is over; the next one goes on');
      }
      this.#observed = await base.host.observe();
      if (first) this.#logAdoption(this.#observed);
    });
  }

  async #mend(first: boolean): Promise<void> {
    const { base, log, publishEvent } = this.#options;
    const { journal, host } = base;
    const { desired } = journal;
    if (desired === null) return;
    const before = first && journal.unfinished ? null : desired;
    const { signal } = this.#stopping;
    const repaired = await host.repair(desired, log.child({ op: 'reconcile' }), { before, signal });
    const { found, done: repairs, news = [] } = repaired;
    if (repairs.length > 0) {
      log.warn({ found, repairs }, 'repaired what had drifted');
      if (first) this.#repairedAtStart = repaired;
      else publishEvent('drift-repaired', repairInWords(repaired), { found, repairs });
    }
    for (const { kind, message, data } of news) publishEvent(kind, message, data);
  }

  #logAdoption({ hooks }: Observed): void {
    const { config, log, base } = this.#options;
    const programs = hooks.flatMap(({ generations }) => generations).length;
    log.info(
      { programs, chaining: config.chaining, desired: base.journal.desired?.chains.length ?? null },
      'adopted what runs',
    );
  }

  /** Changes to interfaces come in bursts: one look for all that come within a moment. */
  #repairSoon(): void {
    if (this.#repairPending) return;
    this.#repairPending = true;
    setTimeout(async () => {
      this.#repairPending = false;
      await this.#options.background.attempt(() => this.#repair());
    }, LINK_EVENTS_SETTLE_MS).unref();
  }

  async #collectPackages(): Promise<void> {
    const { lane, base } = this.#options;
    const { journal, packages, context } = base;
    await lane.run(async () => {
      const { desired } = journal;
      if (desired === null) return;
      await packages.collect(packagesInUse(desired, context.roots));
    });
  }
}

/** What must not be collected: the packages of all that is desired, disabled or not, and of the roots. */
export function packagesInUse(desired: DesiredState, roots: PlanContext['roots']): readonly PackageRef[] {
  return [...desiredPlaces(desired).flatMap(({ programs }) => programs), ...rootPackages(roots)];
}
