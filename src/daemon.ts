import { Agent } from './agent.js';
import type { Observer } from './apply/executor.js';
import { Lane } from './apply/lane.js';
import { Background } from './background.js';
import { BusLink } from './bus-link.js';
import type { Companions } from './companions/companions.js';
import type { MemoryCompanions } from './companions/memory.js';
import type { Config } from './config.js';
import type { Datapath } from './datapath/datapath.js';
import { LinkEvents } from './datapath/link-events.js';
import { NOTHING_DESIRED } from './domain/desired.js';
import type { Observed } from './domain/observed.js';
import { Host, type Repair, repairInWords } from './host.js';
import type { L3AFALLHOSTDATA } from './messages/snapshot.js';
import { Monitoring } from './monitoring.js';
import { openCompanions } from './open-companions.js';
import { openPackages } from './open-packages.js';
import type { PackageCache } from './packages/cache.js';
import type { PlanContext } from './plan/context.js';
import { healthChecks, requestHandlers } from './requests.js';
import { configuredRoots, rootPackages } from './roots.js';
import { snapshotOf } from './snapshot.js';
import { Journal } from './store/journal.js';
import { type StateDirLock, takeStateDir } from './store/lock.js';
import { type Health, TelemetryServer } from './telemetry/http.js';
import type { Logger } from './telemetry/log.js';
import { Metrics } from './telemetry/metrics.js';

export interface DaemonOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  /** Taken over: closed when the daemon stops. */
  readonly datapath: Datapath;
  /** Finds out by trying what the kernel can do, for the registration. */
  readonly probe: () => Promise<Readonly<Record<string, boolean>>>;
  /** Called when the daemon cannot go on; the datapath stays as it is. */
  readonly onFatal: (error: unknown) => void;
  /** Told of every step before it runs. */
  readonly observer?: Observer;
}

const LINK_EVENTS_SETTLE_MS = 100;
/** Packages that nothing asks for are kept for a while: a roll-back may want them. */
const COLLECT_INTERVAL_MS = 60 * 60 * 1000;

/**
 * The running agent. It starts from the inside out, so that each part finds what it stands on: first the host is brought to its
 * recorded desired state, then the bus is joined, and only then commands are taken. It stops in the opposite order, and leaves the
 * datapath running.
 */
export class Daemon {
  readonly #options: DaemonOptions;
  readonly #lane = new Lane();
  readonly #metrics: Metrics;
  readonly #startedAt = new Date();
  readonly #joining = new AbortController();
  readonly #background: Background;
  #lock: StateDirLock | undefined;
  #journal!: Journal;
  #packages!: PackageCache;
  #companions!: Companions | MemoryCompanions;
  #context!: PlanContext;
  #host!: Host;
  readonly #monitoring: Monitoring;
  #telemetry: TelemetryServer | undefined;
  #link: BusLink | undefined;
  #agent: Agent | undefined;
  #ready = false;
  #linkEvents: LinkEvents | undefined;
  #repairPending = false;
  /** What the repair at the start had to do, until the bus can be told. */
  #repairedAtStart: Repair = { found: [], done: [] };
  #features: Readonly<Record<string, boolean>> = {};
  /** The newest observation, for the health page; a request on the bus makes one of its own. */
  #observed: Observed | undefined;
  #joined: Promise<void> = Promise.resolve();

  constructor(options: DaemonOptions) {
    this.#options = options;
    const { config, log, datapath } = options;
    this.#metrics = new Metrics(config.hostName);
    this.#background = new Background(log);
    this.#monitoring = new Monitoring({ datapath, lane: this.#lane, metrics: this.#metrics, log, config });
  }

  /** Resolves when the host is at its recorded state and the bus is being joined; that goes on for as long as it takes. */
  async start(): Promise<void> {
    const { config, log, onFatal } = this.#options;
    await this.#openState();
    await this.#startTelemetry();
    await this.#repair();
    void this.#background.attempt(async () => {
      this.#features = await this.#options.probe();
    });
    this.#background.every(config.reconcileInterval, () => this.#repair());
    this.#background.every(config.monitorInterval, () => this.#monitoring.tick());
    this.#background.every(COLLECT_INTERVAL_MS, () => this.#collectPackages());
    if (this.#options.datapath.kind === 'libbpf') {
      this.#linkEvents = new LinkEvents({ onChange: () => this.#repairSoon(), log });
      this.#linkEvents.start();
    }
    this.#joined = this.#join().catch((error: unknown) => {
      if (this.#joining.signal.aborted) return;
      log.fatal({ err: error }, 'cannot go on');
      onFatal(error);
    });
  }

  /**
   * Finishes the command in hand and lets go of everything.
   *
   * @param detach whether to take the datapath down as well; what is desired stays recorded
   */
  async stop(detach: boolean): Promise<void> {
    const { log, datapath } = this.#options;
    this.#joining.abort();
    this.#linkEvents?.stop();
    this.#background.stop();
    await this.#link?.stopCommands();
    await this.#link?.close();
    // An agent that is still joining, perhaps with a broker that is away, ends with its connection.
    await this.#joined;
    await this.#lane.idle();
    if (detach) await this.#lane.run(() => this.#host.detachAll(log));
    await this.#telemetry?.stop();
    await this.#companions?.close();
    await this.#packages?.close();
    await datapath.close();
    await this.#journal?.close();
    await this.#lock?.release();
    log.info({ detached: detach }, 'stopped');
  }

  async #openState(): Promise<void> {
    const { config, log, datapath, observer } = this.#options;
    this.#lock = await takeStateDir(config.stateDir);
    this.#journal = new Journal({ dir: config.stateDir, logger: log });
    await this.#journal.open();
    this.#packages = await openPackages(config, () => this.#link, this.#metrics.artifactFetched);
    this.#companions = await openCompanions(config, datapath.kind, this.#packages, log);
    const { bpffs, chaining, companionMaxRestarts: maxRestarts, companionRestartWindow: windowMs } = config;
    this.#context = { bpffs, chaining, tcx: datapath.ordersLinks(), roots: configuredRoots(config) };
    this.#host = new Host({
      tools: { datapath, packages: this.#packages, companions: this.#companions },
      context: this.#context,
      metrics: this.#metrics,
      onLook: (observed, desired) => this.#monitoring.follow(observed, desired),
      restartPolicy: { maxRestarts, windowMs, backOffMs: config.reconcileInterval },
      ...(observer !== undefined && { observer }),
    });
  }

  async #startTelemetry(): Promise<void> {
    const { config, log } = this.#options;
    this.#metrics.start();
    if (config.metricsAddr === 'off') return;
    const health = () => this.#health();
    this.#telemetry = new TelemetryServer({ ...config.metricsAddr, metrics: this.#metrics, health, log });
    const { url } = await this.#telemetry.start();
    log.info({ url }, 'serving metrics and health');
  }

  /** Compares what is with what is desired, and mends what differs. With no record of what is desired, nothing is touched. */
  async #repair(): Promise<void> {
    const { log, config } = this.#options;
    await this.#lane.run(async () => {
      const { desired } = this.#journal;
      const first = this.#observed === undefined;
      if (desired !== null) {
        const before = first && this.#journal.unfinished ? null : desired;
        const repaired = await this.#host.repair(desired, log.child({ op: 'reconcile' }), before);
        const { found, done: repairs, news = [] } = repaired;
        if (repairs.length > 0) {
          log.warn({ found, repairs }, 'repaired what had drifted');
          if (first) this.#repairedAtStart = repaired;
          else this.#link?.publishEvent('drift-repaired', repairInWords(repaired), { found, repairs });
        }
        for (const { kind, message, data } of news) this.#link?.publishEvent(kind, message, data);
      }
      this.#observed = await this.#host.observe();
      if (!first) return;
      const programs = this.#observed.hooks.flatMap(({ generations }) => generations).length;
      log.info({ programs, chaining: config.chaining, desired: desired?.chains.length ?? null }, 'adopted what runs');
    });
  }

  async #collectPackages(): Promise<void> {
    await this.#lane.run(async () => {
      const { desired } = this.#journal;
      if (desired === null) return;
      const asked = desired.chains.flatMap(({ programs }) => programs);
      await this.#packages.collect([...asked, ...rootPackages(this.#context.roots)]);
    });
  }

  /** Changes to interfaces come in bursts: one look for all that come within a moment. */
  #repairSoon(): void {
    if (this.#repairPending) return;
    this.#repairPending = true;
    setTimeout(async () => {
      this.#repairPending = false;
      if (this.#joining.signal.aborted) return;
      await this.#background.attempt(() => this.#repair());
    }, LINK_EVENTS_SETTLE_MS).unref();
  }

  #tellAdoption(link: BusLink): void {
    const programs = this.#observed?.hooks.flatMap(({ generations }) => generations.map(({ name }) => name)) ?? [];
    if (programs.length === 0) return;
    const { found, done: repairs } = this.#repairedAtStart;
    const mended = repairs.length === 0 ? '' : ` after repairs: ${repairInWords(this.#repairedAtStart)}`;
    link.publishEvent('adopted', `Adopted ${programs.length} programs${mended}`, { programs, found, repairs });
  }

  async #join(): Promise<void> {
    const { config, version, log } = this.#options;
    const link = new BusLink({
      config,
      version,
      log,
      journal: this.#journal,
      metrics: this.#metrics,
      signal: this.#joining.signal,
      startedAt: this.#startedAt,
      interfaces: () => this.#observed?.interfaces ?? new Map(),
      features: () => this.#features,
      snapshot: () => this.#snapshot(),
      onResume: async () => {
        await this.#agent?.checkPosition();
        return this.#journal.stream?.lastSeq;
      },
      onConflict: (error) => this.#options.onFatal(error),
    });
    this.#link = link;
    await link.open();
    const { hostName, snapshotInterval, metricsInterval } = config;
    const agent = new Agent({
      hostName,
      ackSubject: link.ackSubject,
      rules: this.#context,
      journal: this.#journal,
      lane: this.#lane,
      host: this.#host,
      bus: link,
      metrics: this.#metrics,
      log,
      serverNow: () => link.serverNow(),
    });
    this.#agent = agent;
    await link.serve(
      requestHandlers({
        hostName,
        version,
        startedAt: this.#startedAt,
        datapath: this.#options.datapath,
        context: this.#context,
        journal: this.#journal,
        lane: this.#lane,
        host: this.#host,
        ready: () => this.#ready,
        connected: () => link.connected,
        lastAnswer: () => agent.lastAnswer,
        snapshot: () => this.#snapshot(),
      }),
    );
    await agent.start();
    this.#ready = true;
    await link.publishSnapshot();
    link.publishEvent('started', `Agent ${version} takes commands for ${hostName}`);
    this.#tellAdoption(link);
    this.#background.every(snapshotInterval, () => link.publishSnapshot());
    this.#background.every(metricsInterval, () => link.publishMetrics());
    log.info({ subject: link.commandSubject }, 'taking commands');
  }

  async #snapshot(): Promise<L3AFALLHOSTDATA> {
    const [observed, companions] = await this.#lane.run(() =>
      Promise.all([this.#host.observe(), this.#host.observeCompanions()]),
    );
    this.#observed = observed;
    return snapshotOf({
      hostName: this.#options.config.hostName,
      desired: this.#journal.desired,
      observed,
      companions,
      watched: this.#host.watchedCompanions,
      context: this.#context,
      stats: await this.#metrics.allStats(),
      monitored: (hook, program) => this.#monitoring.of(hook, program),
    });
  }

  #health(): Health {
    const observed = this.#observed ?? { hooks: [], interfaces: new Map(), publicMaps: new Map() };
    const desired = this.#journal.desired ?? NOTHING_DESIRED;
    const checks = healthChecks(desired, observed, this.#ready, this.#link?.connected ?? false);
    return { healthy: checks.every(({ ok }) => ok), checks };
  }
}
