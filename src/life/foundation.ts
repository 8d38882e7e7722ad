import type { Observer } from '../apply/executor.js';
import type { Companions } from '../companions/companions.js';
import type { MemoryCompanions } from '../companions/memory.js';
import type { Config } from '../config.js';
import type { Datapath } from '../datapath/datapath.js';
import { Host } from '../host/host.js';
import type { Monitoring } from '../host/monitoring.js';
import type { PackageCache } from '../packages/cache.js';
import type { PlanContext } from '../plan/context.js';
import { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { Ground } from './ground.js';
import { openCompanions } from './open-companions.js';
import { type ObjectSource, openPackages } from './open-packages.js';
import { configuredRoots } from './roots.js';

export interface FoundationOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly datapath: Datapath;
  readonly metrics: Metrics;
  readonly monitoring: Monitoring;
  /** The bus, once it is being joined. */
  readonly bus: () => ObjectSource | undefined;
  readonly observer?: Observer | undefined;
}

/** What a running agent stands on: all that it has on this machine, without the bus. */
export class Foundation {
  readonly journal: Journal;
  readonly context: PlanContext;
  readonly host: Host;
  readonly packages: PackageCache;
  readonly #ground: Ground;
  readonly #companions: Companions | MemoryCompanions;

  private constructor(
    { config, datapath, metrics, monitoring, observer }: FoundationOptions,
    ground: Ground,
    journal: Journal,
    packages: PackageCache,
    companions: Companions | MemoryCompanions,
  ) {
    const { bpffs, chaining, companionMaxRestarts: maxRestarts, companionRestartWindow: windowMs } = config;
    this.#ground = ground;
    this.#companions = companions;
    this.journal = journal;
    this.packages = packages;
    this.context = { bpffs, chaining, tcx: datapath.ordersLinks(), roots: configuredRoots(config) };
    this.host = new Host({
      tools: { datapath, packages, companions },
      context: this.context,
      metrics,
      onLook: (observed, desired) => monitoring.follow(observed, desired),
      restartPolicy: { maxRestarts, windowMs, backOffMs: config.reconcileInterval },
      ...(observer !== undefined && { observer }),
    });
  }

  /** @throws AgentError STATE_DIR_LOCKED, CONFIG_INVALID, INTERNAL when something on the disk cannot be used */
  static async open(options: FoundationOptions): Promise<Foundation> {
    const { config, log, datapath, metrics, bus } = options;
    const ground = await Ground.take(config, datapath.kind);
    const journal = new Journal({ dir: config.stateDir, logger: log });
    await journal.open();
    const packages = await openPackages(config, bus, metrics.artifactFetched);
    const companions = await openCompanions(config, datapath, packages, log);
    return new Foundation(options, ground, journal, packages, companions);
  }

  /** @throws AgentError INTERNAL when the agent has to be started again, since what it stands on is gone */
  async assertThere(): Promise<void> {
    const [journal] = await Promise.allSettled([this.journal.assertThere()]);
    // A journal that has gone with its directory is not what is to be told of.
    await this.#ground.assertThere();
    if (journal.status === 'rejected') throw journal.reason;
  }

  /** Leaves what runs as it is. */
  async close(): Promise<void> {
    await this.#companions.close();
    await this.packages.close();
    await this.journal.close();
    await this.#ground.release();
  }
}
