import type { Observer } from '../apply/executor.js';
import type { Bus } from '../bus/connect.js';
import type { Companions } from '../companions/companions.js';
import type { MemoryCompanions } from '../companions/memory.js';
import type { Config } from '../config.js';
import type { Datapath } from '../datapath/datapath.js';
import type { PackageCache } from '../packages/cache.js';
import type { PlanContext } from '../plan/context.js';
import { Host } from '../reconcile/host.js';
import type { Monitoring } from '../reconcile/monitoring.js';
import { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { InstanceLock } from './instance-lock.js';
import { openCompanions } from './open-companions.js';
import { openPackages } from './open-packages.js';
import { configuredRoots } from './roots.js';

export interface FoundationOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly datapath: Datapath;
  readonly metrics: Metrics;
  readonly monitoring: Monitoring;
  /** The bus, once it is connected. */
  readonly bus: () => Bus | undefined;
  readonly observer?: Observer | undefined;
}

/** What a running agent depends on: all its resources on this machine, without the bus. */
export class Foundation {
  readonly journal: Journal;
  readonly context: PlanContext;
  readonly host: Host;
  readonly packages: PackageCache;
  readonly #lock: InstanceLock;
  readonly #companions: Companions | MemoryCompanions;

  private constructor(
    { config, datapath, metrics, monitoring, observer }: FoundationOptions,
    lock: InstanceLock,
    journal: Journal,
    packages: PackageCache,
    companions: Companions | MemoryCompanions,
  ) {
    const { bpffs, chaining, companionMaxRestarts: maxRestarts, companionRestartWindow: windowMs } = config;
    this.#lock = lock;
    this.#companions = companions;
    this.journal = journal;
    this.packages = packages;
    this.context = { bpffs, chaining, ordered: datapath.ordered(), roots: configuredRoots(config) };
    this.host = new Host({
      tools: { datapath, packages, companions },
      context: this.context,
      metrics,
      onLook: (turn, observed, desired) => monitoring.follow(turn, observed, desired),
      restartPolicy: { maxRestarts, windowMs, backOffMs: config.reconcileInterval },
      ...(observer !== undefined && { observer }),
    });
  }

  /**
   * @throws AgentError STATE_DIR_LOCKED, CONFIG_INVALID, DISK_FULL, DISK_FAULT or PERMISSION_DENIED when something on
   *   the disk cannot be used
   */
  static async open(options: FoundationOptions): Promise<Foundation> {
    const { config, log, datapath, metrics, bus } = options;
    const lock = await InstanceLock.take(config, datapath.kind);
    const journal = new Journal({ dir: config.stateDir, logger: log });
    await journal.open();
    const packages = await openPackages(config, bus, metrics.artifactFetched);
    const companions = await openCompanions(config, datapath, packages, log);
    return new Foundation(options, lock, journal, packages, companions);
  }

  /** @throws AgentError STATE_LOST when a part of it no longer exists, so that the agent must be started again */
  async assertThere(): Promise<void> {
    const [journal] = await Promise.allSettled([this.journal.assertThere()]);
    // If the whole directory is lost, report that and not the journal.
    this.#lock.assertThere();
    if (journal.status === 'rejected') throw journal.reason;
  }

  /** Leaves everything that runs as it is. */
  async close(): Promise<void> {
    await this.#companions.close();
    await this.packages.close();
    await this.journal.close();
    await this.#lock.release();
  }
}
