import type { Observer } from '../apply/executor.js';
import { Lane } from '../apply/lane.js';
import { type Bus, connectBus } from '../bus/connect.js';
import { Agent } from '../commands/agent.js';
import type { Config } from '../config.js';
import type { Datapath } from '../datapath/datapath.js';
import { NOTHING_DESIRED } from '../domain/desired.js';
import { AgentError } from '../errors.js';
import type { L3AFALLHOSTDATA } from '../messages/snapshot.js';
import { healthChecks, requestHandlers } from '../queries/requests.js';
import { snapshotOf } from '../queries/snapshot.js';
import { Monitoring } from '../reconcile/monitoring.js';
import { retry } from '../retry.js';
import { type Health, TelemetryServer } from '../telemetry/http.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { Background } from './background.js';
import { BusLink, busAddress, busOptions, type SnapshotLook } from './bus-link.js';
import { Foundation } from './foundation.js';
import { OwnBroker } from './own-broker.js';
import { Upkeep } from './upkeep.js';

export interface DaemonOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  /** Owned by the daemon, which closes it when it stops. */
  readonly datapath: Datapath;
  /** Finds out by trying which features the kernel has, for the registration. */
  readonly detectFeatures: () => Promise<Readonly<Record<string, boolean>>>;
  /** Called when the daemon cannot continue. The datapath stays as it is. */
  readonly onFatal: (error: unknown) => void;
  /** Called with every step before it runs. */
  readonly observer?: Observer;
}

/** How long a stopping agent waits for a package that is being fetched. */
const FETCH_PATIENCE_MS = 5_000;
/** Until the address of metrics and health is tried again. */
const ADDRESS_AGAIN = { firstMs: 5_000, capMs: 5_000 };

function mayPass(error: unknown): boolean {
  return error instanceof AgentError && error.transient;
}

/**
 * The running agent. It starts its parts in the order of their dependencies: first it brings the host to its recorded
 * desired state, then it joins the bus, and only then it accepts commands. It stops in the opposite order, and leaves
 * the datapath running.
 */
export class Daemon {
  readonly #options: DaemonOptions;
  readonly #lane = new Lane();
  readonly #metrics: Metrics;
  readonly #startedAt = new Date();
  readonly #stopping = new AbortController();
  readonly #background: Background;
  readonly #monitoring: Monitoring;
  /** How to release what was started, the newest last. */
  readonly #ends: ((detach: boolean) => unknown)[] = [];
  /** Absent until NATS is connected, which may be never. */
  #bus: Bus | undefined;
  /** Why there is no first connection to NATS. */
  #refusal: string | undefined;
  /** Absent until the bus is joined. */
  #link: BusLink | undefined;
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

  /** Resolves when the host is in its recorded state. Joining the bus continues after that, for as long as it takes. */
  start(): Promise<void> {
    this.#starting = this.#begin();
    return this.#starting;
  }

  /**
   * Gives back a command that waits for a retry or a slow download, finishes any other, and releases everything.
   *
   * @param detach whether to take the datapath down as well; the desired state stays recorded
   */
  async stop(detach: boolean): Promise<void> {
    const { log, datapath } = this.#options;
    this.#stopping.abort();
    this.#background.stop();
    // Whoever called start() reports why it failed.
    await this.#starting.catch(() => {});
    for (let end = this.#ends.pop(); end !== undefined; end = this.#ends.pop()) await end(detach);
    await datapath.close();
    log.info({ detached: detach }, 'stopped');
  }

  async #begin(): Promise<void> {
    const { config, log } = this.#options;
    const [monitoring, metrics, lane, { signal }] = [this.#monitoring, this.#metrics, this.#lane, this.#stopping];
    const base = await Foundation.open({ ...this.#options, metrics, monitoring, bus: () => this.#bus });
    this.#ends.push(() => base.close());
    const upkeep = this.#upkeepOf(base);
    const telemetry = this.#telemetryOf(base);
    this.#ends.push(() => telemetry?.stop());
    const endPatience = this.#limitFetches(base);
    this.#ends.push(async (detach) => {
      await lane.idle();
      endPatience();
      if (detach) await lane.run((turn) => base.host.detachAll(turn, log));
    });
    if (signal.aborted) return;

    metrics.start();
    if (telemetry !== undefined) await this.#serve(telemetry);
    await upkeep.start();
    if (signal.aborted) return;
    this.#background.every(config.monitorInterval, () => monitoring.tick());
    // Waits for the joining, which ends when the connection is closed, even if the broker is away.
    this.#ends.push(() => this.#joined);
    this.#joined = this.#join(base, upkeep).catch((error: unknown) => {
      if (!signal.aborted) this.#fail(error);
    });
  }

  /** Metrics and health are no reason not to run: whoever has taken their address may give it back. */
  async #serve(telemetry: TelemetryServer): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#stopping;
    const start = async () => log.info(await telemetry.start(), 'serving metrics and health');
    try {
      await start();
    } catch (error) {
      if (!mayPass(error)) throw error;
      log.error({ err: error }, 'cannot serve metrics and health; trying again');
      void this.#background.attempt(async () => {
        const again = retry(start, { backoff: ADDRESS_AGAIN, signal, isPassing: mayPass });
        await again.catch((failure: unknown) => {
          if (!signal.aborted) throw failure;
        });
      });
    }
  }

  #fail(error: unknown): void {
    const { log, onFatal } = this.#options;
    log.fatal({ err: error }, 'cannot continue');
    onFatal(error);
  }

  /**
   * Nothing may be started if the foundation no longer exists, since it would be lost. @returns whether the agent can
   * continue
   */
  async #stands(base: Foundation): Promise<boolean> {
    try {
      await base.assertThere();
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#fail(error);
      return false;
    }
    return true;
  }

  /** Limits how long a stopping agent waits for a package. The next agent fetches it. @returns what ends the wait */
  #limitFetches({ packages }: Foundation): () => void {
    const { signal } = this.#stopping;
    let patience: NodeJS.Timeout | undefined;
    const begin = () => {
      patience = setTimeout(() => void packages.close(), FETCH_PATIENCE_MS);
    };
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
    return () => clearTimeout(patience);
  }

  #upkeepOf(base: Foundation): Upkeep {
    const { config, log, datapath } = this.#options;
    return new Upkeep({
      config,
      log,
      base,
      lane: this.#lane,
      background: this.#background,
      signal: this.#stopping.signal,
      stands: () => this.#stands(base),
      watchesLinks: datapath.kind === 'libbpf',
      publishEvent: (...event) => this.#link?.publishEvent(...event),
    });
  }

  /** @returns undefined if nothing is to be served */
  #telemetryOf(base: Foundation): TelemetryServer | undefined {
    const { config, log } = this.#options;
    if (config.metricsAddr === 'off') return undefined;
    const health = () => this.#health(base);
    return new TelemetryServer({ ...config.metricsAddr, metrics: this.#metrics, health, log });
  }

  async #join(base: Foundation, upkeep: Upkeep): Promise<void> {
    const { config, version, log, datapath, detectFeatures } = this.#options;
    const { journal, context, host } = base;
    const { signal } = this.#stopping;
    const [lane, metrics, startedAt] = [this.#lane, this.#metrics, this.#startedAt];
    const address = busAddress(config);
    const bus = await this.#connect();
    this.#bus = bus;
    const snapshot = (look: SnapshotLook) => this.#snapshot(base, look);
    const link = await BusLink.open(bus, address, {
      config,
      version,
      log,
      journal,
      metrics,
      signal,
      startedAt,
      interfaces: () => host.latest?.interfaces ?? new Map(),
      features: () => this.#features,
      snapshot,
      onFatal: (error) => this.#fail(error),
    });
    if (signal.aborted) return link.close();
    this.#link = link;
    const { hostName, snapshotInterval, metricsInterval } = config;
    const agent = new Agent({
      hostName,
      ackSubject: link.ackSubject,
      rules: context,
      journal,
      lane,
      host,
      bus: link,
      metrics,
      log,
      serverNow: () => link.serverNow(),
      signal,
      stands: () => this.#stands(base),
    });
    this.#ends.push(async () => {
      await link.stopCommands();
      await link.close();
      await this.#joined;
      await lane.idle();
      await agent.stop();
    });
    await link.serve(
      requestHandlers({
        hostName,
        version,
        startedAt,
        datapath,
        context,
        journal,
        lane,
        host,
        ready: () => this.#ready,
        connected: () => link.connected,
        troubles: () => bus.troubles.list(),
        lastAnswer: () => agent.lastAnswer,
        snapshot: () => snapshot('now'),
      }),
    );
    await agent.start();
    this.#ready = true;
    await link.publishSnapshot();
    link.publishEvent('started', `Agent ${version} takes commands for ${hostName}`);
    upkeep.tellAdoption();
    this.#background.every(snapshotInterval, () => link.publishSnapshot());
    this.#background.every(metricsInterval, () => link.publishMetrics());
    log.info({ subject: link.commandSubject }, 'taking commands');
    // Last, since another process does it, and only the registration tells it.
    void this.#background.attempt(async () => {
      this.#features = await detectFeatures();
    });
  }

  /** Connects, for as long as it takes. If no broker is configured, it starts an embedded one. */
  async #connect(): Promise<Bus> {
    const { config, log } = this.#options;
    const { natsUrl, stateDir } = config;
    const { signal } = this.#stopping;
    if (natsUrl !== undefined) {
      const onRefused = (reason: string) => {
        this.#refusal = reason;
      };
      const bus = await connectBus({ ...busOptions(config, natsUrl, signal), onRefused }, log);
      this.#refusal = undefined;
      this.#ends.push(() => bus.close());
      return bus;
    }
    const broker = new OwnBroker({ stateDir, log, signal, onMoved: (error) => this.#fail(error) });
    this.#ends.push(() => broker.stop());
    const bus = await connectBus(busOptions(config, [await broker.start()], signal), log);
    this.#ends.push(() => bus.close());
    const { connection } = bus;
    connection.onDisconnect(() => broker.revive(() => connection.connected));
    return bus;
  }

  async #snapshot({ host, journal, context }: Foundation, look: SnapshotLook): Promise<L3AFALLHOSTDATA> {
    const [observed, companions] = await this.#lane.run((turn) => {
      const latest = look === 'latest' ? host.latest : undefined;
      return Promise.all([latest ?? host.observe(turn), host.observeCompanions(turn)]);
    });
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

  #health({ journal, host }: Foundation): Health {
    const observed = host.latest ?? { hooks: [], interfaces: new Map(), publicMaps: new Map() };
    const connected = this.#bus?.connection.connected ?? false;
    const checks = healthChecks({
      desired: journal.desired ?? NOTHING_DESIRED,
      observed,
      companions: host.watchedCompanions,
      ready: this.#ready,
      connected,
      refusal: this.#refusal,
      troubles: this.#bus?.troubles.list() ?? [],
    });
    return { healthy: checks.every(({ ok }) => ok), checks };
  }
}
