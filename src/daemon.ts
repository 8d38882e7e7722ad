import { Agent } from './agent.js';
import type { Observer } from './apply/executor.js';
import { Lane } from './apply/lane.js';
import type { Config } from './config.js';
import type { Datapath } from './datapath/datapath.js';
import { NOTHING_DESIRED } from './domain/desired.js';
import { Monitoring } from './host/monitoring.js';
import { Background } from './life/background.js';
import { BusLink } from './life/bus-link.js';
import { Foundation } from './life/foundation.js';
import { Upkeep } from './life/upkeep.js';
import type { L3AFALLHOSTDATA } from './messages/snapshot.js';
import { healthChecks, requestHandlers } from './questions/requests.js';
import { snapshotOf } from './questions/snapshot.js';
import type { Journal } from './store/journal.js';
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

/** How long a stopping agent waits for a package that is being fetched. */
const FETCH_PATIENCE_MS = 5_000;

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
  readonly #stopping = new AbortController();
  readonly #background: Background;
  #base: Foundation | undefined;
  #upkeep: Upkeep | undefined;
  readonly #monitoring: Monitoring;
  #telemetry: TelemetryServer | undefined;
  #link: BusLink | undefined;
  #agent: Agent | undefined;
  #ready = false;
  #features: Readonly<Record<string, boolean>> = {};
  #starting: Promise<void> = Promise.resolve();
  #joined: Promise<void> = Promise.resolve();

  constructor(options: DaemonOptions) {
    this.#options = options;
    const { config, log, datapath } = options;
    this.#metrics = new Metrics(config.hostName);
    this.#background = new Background(log);
    this.#monitoring = new Monitoring({ datapath, lane: this.#lane, metrics: this.#metrics, log, config });
  }

  /** Resolves when the host is at its recorded state and the bus is being joined; that goes on for as long as it takes. */
  start(): Promise<void> {
    this.#starting = this.#begin();
    return this.#starting;
  }

  /**
   * Gives back the command that waits to be tried again or for a slow download, finishes any other, and lets go of everything.
   *
   * @param detach whether to take the datapath down as well; what is desired stays recorded
   */
  async stop(detach: boolean): Promise<void> {
    const { log, datapath } = this.#options;
    this.#stopping.abort();
    this.#upkeep?.stop();
    this.#background.stop();
    // What takes long to fetch is fetched by the next agent.
    const patience = setTimeout(() => void this.#base?.packages.close(), FETCH_PATIENCE_MS);
    // Why an agent cannot start is told by whoever has started it.
    await this.#starting.catch(() => {});
    await this.#link?.stopCommands();
    await this.#link?.close();
    // An agent that is still joining, perhaps with a broker that is away, ends with its connection.
    await this.#joined;
    await this.#lane.idle();
    clearTimeout(patience);
    await this.#agent?.stop();
    if (detach) await this.#lane.run(async () => void (await this.#base?.host.detachAll(log)));
    await this.#telemetry?.stop();
    await this.#base?.close();
    await datapath.close();
    log.info({ detached: detach }, 'stopped');
  }

  async #begin(): Promise<void> {
    const { config } = this.#options;
    const [monitoring, metrics, { signal }] = [this.#monitoring, this.#metrics, this.#stopping];
    const base = await Foundation.open({ ...this.#options, metrics, monitoring, bus: () => this.#link });
    this.#base = base;
    if (signal.aborted) return;
    await this.#startTelemetry(base);
    await this.#keepUp(base).start();
    if (signal.aborted) return;
    void this.#background.attempt(async () => {
      this.#features = await this.#options.probe();
    });
    this.#background.every(config.monitorInterval, () => monitoring.tick());
    this.#joined = this.#join(base).catch((error: unknown) => {
      if (!signal.aborted) this.#fail(error);
    });
  }

  #fail(error: unknown): void {
    const { log, onFatal } = this.#options;
    log.fatal({ err: error }, 'cannot go on');
    onFatal(error);
  }

  /** What is begun on ground that is gone would be lost. @returns whether the agent can go on */
  async #stands(base: Foundation): Promise<boolean> {
    try {
      await base.assertThere();
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#fail(error);
      return false;
    }
    return true;
  }

  #keepUp(base: Foundation): Upkeep {
    const { config, log, datapath } = this.#options;
    this.#upkeep = new Upkeep({
      config,
      log,
      base,
      lane: this.#lane,
      background: this.#background,
      stands: () => this.#stands(base),
      watchesLinks: datapath.kind === 'libbpf',
      publishEvent: (...event) => this.#link?.publishEvent(...event),
    });
    return this.#upkeep;
  }

  async #startTelemetry({ journal }: Foundation): Promise<void> {
    const { config, log } = this.#options;
    this.#metrics.start();
    if (config.metricsAddr === 'off') return;
    const health = () => this.#health(journal);
    this.#telemetry = new TelemetryServer({ ...config.metricsAddr, metrics: this.#metrics, health, log });
    const { url } = await this.#telemetry.start();
    log.info({ url }, 'serving metrics and health');
  }

  async #join(base: Foundation): Promise<void> {
    const { config, version, log, datapath } = this.#options;
    const { journal, context, host } = base;
    const snapshot = () => this.#snapshot(base);
    const link = new BusLink({
      config,
      version,
      log,
      journal,
      metrics: this.#metrics,
      signal: this.#stopping.signal,
      startedAt: this.#startedAt,
      interfaces: () => this.#upkeep?.observed?.interfaces ?? new Map(),
      features: () => this.#features,
      snapshot,
      onResume: async () => {
        await this.#agent?.checkPosition();
        return journal.stream?.lastSeq;
      },
      onFatal: (error) => this.#fail(error),
    });
    this.#link = link;
    await link.open();
    const { hostName, snapshotInterval, metricsInterval } = config;
    const agent = new Agent({
      hostName,
      ackSubject: link.ackSubject,
      rules: context,
      journal,
      lane: this.#lane,
      host,
      bus: link,
      metrics: this.#metrics,
      log,
      serverNow: () => link.serverNow(),
      signal: this.#stopping.signal,
      stands: () => this.#stands(base),
    });
    this.#agent = agent;
    await link.serve(
      requestHandlers({
        hostName,
        version,
        startedAt: this.#startedAt,
        datapath,
        context,
        journal,
        lane: this.#lane,
        host,
        ready: () => this.#ready,
        connected: () => link.connected,
        lastAnswer: () => agent.lastAnswer,
        snapshot,
      }),
    );
    await agent.start();
    this.#ready = true;
    await link.publishSnapshot();
    link.publishEvent('started', `Agent ${version} takes commands for ${hostName}`);
    this.#upkeep?.tellAdoption();
    this.#background.every(snapshotInterval, () => link.publishSnapshot());
    this.#background.every(metricsInterval, () => link.publishMetrics());
    log.info({ subject: link.commandSubject }, 'taking commands');
  }

  async #snapshot({ host, journal, context }: Foundation): Promise<L3AFALLHOSTDATA> {
    const [observed, companions] = await this.#lane.run(() => Promise.all([host.observe(), host.observeCompanions()]));
    this.#upkeep?.note(observed);
    return snapshotOf({
      hostName: this.#options.config.hostName,
      desired: journal.desired,
      observed,
      companions,
      watched: host.watchedCompanions,
      context,
      stats: await this.#metrics.allStats(),
      monitored: (hook, program) => this.#monitoring.of(hook, program),
    });
  }

  #health({ desired }: Journal): Health {
    const observed = this.#upkeep?.observed ?? { hooks: [], interfaces: new Map(), publicMaps: new Map() };
    const checks = healthChecks(desired ?? NOTHING_DESIRED, observed, this.#ready, this.#link?.connected ?? false);
    return { healthy: checks.every(({ ok }) => ok), checks };
  }
}
