import { release } from 'node:os';
import { CommandStream, type OnResume } from '../bus/command-stream.js';
import type { Bus, BusOptions } from '../bus/connect.js';
import type { Backlog, Delivery, Disposition, StreamPosition } from '../bus/delivery.js';
import { insist } from '../bus/insist.js';
import { Outbox } from '../bus/outbox.js';
import { Publisher } from '../bus/publish.js';
import { Registration } from '../bus/registration.js';
import { type RequestHandler, type Service, startService } from '../bus/service.js';
import { ensureStreams } from '../bus/streams.js';
import type { BusTask } from '../bus/troubles.js';
import type { CommandBus } from '../commands/command-bus.js';
import type { Config } from '../config.js';
import type { EventKind } from '../messages/events.js';
import type { L3AFALLHOSTDATA } from '../messages/snapshot.js';
import { hostToken, type Subjects, subjectsFor } from '../messages/subjects.js';
import type { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { StreamRestorer } from './stream-restorer.js';

export interface BusLinkOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  readonly journal: Journal;
  readonly metrics: Metrics;
  /** Closes the connection while the link is being opened. Later, {@link BusLink.close} closes it. */
  readonly signal: AbortSignal;
  readonly startedAt: Date;
  readonly interfaces: () => ReadonlyMap<string, number>;
  /** Features of the kernel by name, as far as they have been tried out. */
  readonly features: () => Readonly<Record<string, boolean>>;
  /** @param look whether to observe the host again, or to take what the last task has observed at its end */
  readonly snapshot: (look: SnapshotLook) => Promise<L3AFALLHOSTDATA>;
  /** Called when the agent must end, because another agent has taken this host's registration. */
  readonly onFatal: (error: Error) => void;
}

/** What a snapshot shows: the host as it is now, or as it was at the end of the last command or repair. */
export type SnapshotLook = 'now' | 'latest';

/** The host's address on the bus. */
export interface BusAddress {
  /** The host's token in subjects. */
  readonly host: string;
  readonly subjects: Subjects;
}

/** The parts of a link. */
interface Parts {
  readonly registration: Registration;
  readonly publisher: Publisher;
  readonly outbox: Outbox;
  readonly commands: CommandStream;
}

/** How long a stopping agent waits for its last answer to be stored. */
const ANSWER_PATIENCE_MS = 5_000;
const SNAPSHOT_AGAIN_MS = 10_000;

/** @throws AgentError CONFIG_INVALID for a host name that cannot be part of a subject */
export function busAddress({ hostId, hostName, prefix }: Config): BusAddress {
  const host = hostId ?? hostToken(hostName);
  return { host, subjects: subjectsFor(prefix, host) };
}

/** The agent's link to the bus, composed of the parts in `bus/`. */
export class BusLink implements CommandBus {
  readonly #bus: Bus;
  readonly #address: BusAddress;
  readonly #options: BusLinkOptions;
  readonly #parts: Parts;
  #snapshotFailed = false;
  #closed = false;
  /** Whether a snapshot follows the one that is being published. */
  #snapshotDue = false;
  #snapshots: Promise<void> = Promise.resolve();
  /** The timer of the next attempt after a failure. */
  #snapshotAgain: NodeJS.Timeout | undefined;
  /** Absent until requests are answered. */
  #service: Service | undefined;

  private constructor(bus: Bus, address: BusAddress, options: BusLinkOptions, parts: Parts) {
    this.#bus = bus;
    this.#address = address;
    this.#options = options;
    this.#parts = parts;
  }

  /**
   * Creates missing streams, claims the host's name, and begins to publish.
   *
   * @param bus owned by the link from now on
   * @throws AgentError DUPLICATE_HOST, STREAM_INCOMPATIBLE, or BROKER_UNREACHABLE when it was stopped meanwhile
   */
  static async open(bus: Bus, address: BusAddress, options: BusLinkOptions): Promise<BusLink> {
    const { signal } = options;
    const ends = [() => bus.close()];
    // The rest then fails because there is no connection.
    const end = async () => {
      for (const close of ends.toReversed()) await close();
    };
    const giveUp = () =>
      void end().catch((err: unknown) => options.log.warn({ err }, 'could not leave the bus cleanly'));
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      if (signal.aborted) await end();
      followConnection(bus, options.metrics);
      const { hostsTtlMs } = await ensureStreams(bus, address.subjects, options.log);
      const parts = partsOf(bus, address, options, hostsTtlMs);
      ends.push(() => parts.registration.stop());
      await parts.registration.claim();
      parts.registration.start();
      parts.outbox.start();
      return new BusLink(bus, address, options, parts);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  get ackSubject(): string {
    return this.#address.subjects.ack;
  }

  get commandSubject(): string {
    return this.#address.subjects.commandFilter;
  }

  get connected(): boolean {
    return this.#bus.connection.connected;
  }

  /** Answers the read-only requests. */
  async serve(handlers: Readonly<Record<string, RequestHandler>>): Promise<void> {
    const { version, log: logger } = this.#options;
    this.#service = await startService({ bus: this.#bus, ...this.#address, version, handlers, logger });
  }

  /**
   * Finishes the current command and accepts no further ones. Does not wait for an answer that cannot be sent because
   * there is no broker: it stays in the journal, and the next agent sends it. The same holds for a dead letter.
   */
  async stopCommands(): Promise<void> {
    const { commands, outbox, publisher } = this.#parts;
    const giveUp = () => void Promise.allSettled([outbox.stop(), publisher.stop()]);
    const patience = setTimeout(giveUp, this.connected ? ANSWER_PATIENCE_MS : 0);
    await commands.stop();
    clearTimeout(patience);
  }

  async close(): Promise<void> {
    const { outbox, publisher, registration } = this.#parts;
    await this.#snapshots;
    this.#closed = true;
    clearTimeout(this.#snapshotAgain);
    await this.#service?.stop();
    await outbox.stop();
    await publisher.stop();
    await registration.stop();
    await this.#bus.close();
  }

  position(): Promise<StreamPosition> {
    return insist(this.#bus, () => this.#parts.commands.position());
  }

  at(seq: number): Promise<Delivery | undefined> {
    return insist(this.#bus, () => this.#parts.commands.at(seq));
  }

  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog> {
    return this.#parts.commands.backlog(after, usable);
  }

  bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void> {
    return this.#parts.commands.bodies(range, begin);
  }

  consume(after: number, handler: (delivery: Delivery) => Promise<Disposition>, onResume: OnResume): Promise<void> {
    return this.#parts.commands.consume(after, handler, onResume);
  }

  async flushOutbox(): Promise<void> {
    const { metrics, journal } = this.#options;
    metrics.setOutboxPending(journal.pending().length);
    await this.#parts.outbox.flush();
    metrics.setOutboxPending(journal.pending().length);
  }

  publishEvent(kind: EventKind, message: string, data?: Record<string, unknown>): void {
    tell(this.#parts.publisher, this.#options, kind, message, data);
  }

  publishSnapshotSoon(): void {
    if (this.#snapshotDue) return;
    this.#snapshotDue = true;
    this.#snapshots = this.#snapshots.then(() => {
      this.#snapshotDue = false;
      return this.publishSnapshot('latest');
    });
  }

  /** A snapshot that cannot be stored is only logged: the next one replaces it. It comes soon, and tells whether that is over. */
  async publishSnapshot(look: SnapshotLook = 'now'): Promise<void> {
    const { log, snapshot } = this.#options;
    try {
      await this.#parts.publisher.snapshot(await snapshot(look));
      this.#snapshotFailed = false;
    } catch (error) {
      if (!this.#snapshotFailed) log.warn({ err: error }, 'could not store the snapshot');
      this.#snapshotFailed = true;
      if (this.#closed) return;
      this.#snapshotAgain ??= setTimeout(() => {
        this.#snapshotAgain = undefined;
        void this.publishSnapshot();
      }, SNAPSHOT_AGAIN_MS).unref();
    }
  }

  async publishMetrics(): Promise<void> {
    const { config, metrics } = this.#options;
    const at = new Date().toISOString();
    this.#parts.publisher.metrics({ host: config.hostName, at, metrics: await metrics.everything() });
  }

  async deadLetter(delivery: Delivery): Promise<void> {
    await this.#parts.publisher.deadLetter(delivery);
  }

  /** Milliseconds since the epoch by the server's clock. */
  serverNow(): number {
    return Date.now() + this.#parts.registration.serverClockOffsetMs();
  }
}

function followConnection({ connection, troubles }: Bus, metrics: Metrics): void {
  metrics.setBrokerConnected(true);
  connection.onReconnect(() => metrics.setBrokerConnected(true));
  connection.onDisconnect(() => metrics.setBrokerConnected(false));
  const has = (task: BusTask) => troubles.list().some((trouble) => trouble.task === task);
  troubles.onChange(() => metrics.setBusTroubles({ consuming: has('consuming'), storing: has('storing') }));
}

/** @param ttlMs how long a registration lives */
function partsOf(bus: Bus, { subjects, host }: BusAddress, options: BusLinkOptions, ttlMs: number): Parts {
  const { log, log: logger, journal, metrics, signal, startedAt, onFatal } = options;
  const restorer = new StreamRestorer({ bus, subjects, log, signal, onRestored: () => registration.hasten() });
  const onStreamMissing = () => restorer.begin();
  const registration = new Registration({
    bus,
    host,
    instanceId: journal.instanceId,
    startedAt: startedAt.toISOString(),
    ttlMs,
    describe: () => describe(options),
    onConflict: onFatal,
    onStreamMissing,
    logger,
  });
  const onDropped = () => metrics.eventDropped();
  const publisher = new Publisher({ bus, subjects, host, logger, onDropped, onStreamMissing });
  const onAltered = (what: string, data: Record<string, unknown>) =>
    tell(publisher, options, 'answer-altered', what, data);
  const outbox = new Outbox({ bus, subjects, store: journal, logger, onAltered, onStreamMissing });
  const commands = new CommandStream({ bus, subjects, host, logger, onStreamMissing: () => restorer.restore() });
  return { registration, publisher, outbox, commands };
}

function tell(
  publisher: Publisher,
  { config, journal }: BusLinkOptions,
  kind: EventKind,
  message: string,
  data?: Record<string, unknown>,
): void {
  const at = new Date().toISOString();
  const body = { host: config.hostName, instance_id: journal.instanceId, kind, at, message };
  publisher.event(kind, { ...body, ...(data !== undefined && { data }) });
}

function describe({ config, version, journal, interfaces, features }: BusLinkOptions) {
  const { generation, stream } = journal;
  return {
    host: config.hostName,
    version,
    interfaces: [...interfaces()].map(([name, index]) => ({ name, index })),
    labels: config.labels,
    kernel: { release: release(), features: { ...features() } },
    ...(generation !== undefined && { gen: generation }),
    ...(stream !== undefined && { seq: stream.lastSeq }),
  };
}

/** How to reach the broker, from the configuration. */
export function busOptions(config: Config, servers: readonly string[], signal: AbortSignal): BusOptions {
  return {
    servers,
    name: `l3af-agent ${config.hostName}`,
    credsFile: config.natsCreds,
    nkeyFile: config.natsNkey,
    userFile: config.natsUserFile,
    passwordFile: config.natsPasswordFile,
    tokenFile: config.natsTokenFile,
    tls: {
      caFile: config.natsTlsCa,
      certFile: config.natsTlsCert,
      keyFile: config.natsTlsKey,
      handshakeFirst: config.natsTlsHandshakeFirst,
    },
    inboxPrefix: config.inboxPrefix,
    jsApiPrefix: config.jsApiPrefix,
    signal,
  };
}
