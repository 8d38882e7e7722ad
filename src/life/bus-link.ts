import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandStream } from '../bus/commands.js';
import { type Bus, type BusOptions, connectBus } from '../bus/connect.js';
import type { Backlog, Delivery, Disposition, StreamPosition } from '../bus/delivery.js';
import { insist } from '../bus/insist.js';
import { type OpenedObject, openStoredObject } from '../bus/objects.js';
import { Outbox } from '../bus/outbox.js';
import { Publisher } from '../bus/publish.js';
import { Registration } from '../bus/registration.js';
import { type RequestHandler, type Service, startService } from '../bus/service.js';
import { ensureStreams } from '../bus/streams.js';
import type { CommandBus } from '../commands/command-bus.js';
import type { Config } from '../config.js';
import { AgentError } from '../errors.js';
import type { EventKind } from '../messages/events.js';
import type { L3AFALLHOSTDATA } from '../messages/snapshot.js';
import { hostToken, type Subjects, subjectsFor } from '../messages/subjects.js';
import type { Journal } from '../store/journal.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { OwnBroker } from './own-broker.js';

export interface BusLinkOptions {
  readonly config: Config;
  readonly version: string;
  readonly log: Logger;
  readonly journal: Journal;
  readonly metrics: Metrics;
  /** Ends the wait for a broker. */
  readonly signal: AbortSignal;
  readonly startedAt: Date;
  readonly interfaces: () => ReadonlyMap<string, number>;
  /** What the kernel can do, by name, as far as that has been tried. */
  readonly features: () => Readonly<Record<string, boolean>>;
  readonly snapshot: () => Promise<L3AFALLHOSTDATA>;
  /** Asked when commands are about to be consumed again after a loss: the sequence after which to go on. */
  readonly onResume: (position: StreamPosition) => Promise<number | undefined>;
  /** Called when the agent has to end: another has taken this host's registration, or its own broker is elsewhere now. */
  readonly onFatal: (error: Error) => void;
}

/** How long a stopping agent waits for its last answer to be stored. */
const ANSWER_PATIENCE_MS = 5_000;
/** nats-server 2.9 is not done with a stream when it says that it is deleted: one made anew at once has files taken from under it. */
const STREAM_SETTLE_MS = 2_000;

/** Everything that ties the agent to the bus, put together from the parts in `bus/`. */
export class BusLink implements CommandBus {
  readonly #options: BusLinkOptions;
  readonly #subjects: Subjects;
  readonly #host: string;
  #ownBroker: OwnBroker | undefined;
  #restoring: Promise<void> | undefined;
  #bus: Bus | undefined;
  #registration!: Registration;
  #publisher: Publisher | undefined;
  #outbox!: Outbox;
  #commands!: CommandStream;
  #service: Service | undefined;

  /** @throws AgentError CONFIG_INVALID for a host name that has no place in a subject */
  constructor(options: BusLinkOptions) {
    const { hostId, hostName, prefix } = options.config;
    this.#options = options;
    this.#host = hostId ?? hostToken(hostName);
    this.#subjects = subjectsFor(prefix, this.#host);
  }

  get ackSubject(): string {
    return this.#subjects.ack;
  }

  get commandSubject(): string {
    return this.#subjects.commandFilter;
  }

  get connected(): boolean {
    return this.#bus?.connection.connected ?? false;
  }

  /**
   * Connects, for as long as it takes, and claims the host's name.
   *
   * @throws AgentError DUPLICATE_HOST, STREAM_INCOMPATIBLE, CONFIG_INVALID, or BROKER_UNREACHABLE when the wait was ended
   */
  async open(): Promise<void> {
    const { config, version, log, journal, metrics, signal, startedAt, onFatal, onResume } = this.#options;
    this.#bus = await connectBus(busOptions(config, await this.#servers(), signal), log);
    // Stopped meanwhile; what follows fails for want of a connection.
    if (signal.aborted) await this.#bus.close();
    const { connection } = this.#bus;
    metrics.setBrokerConnected(true);
    connection.onReconnect(() => metrics.setBrokerConnected(true));
    connection.onDisconnect(() => {
      metrics.setBrokerConnected(false);
      this.#ownBroker?.revive();
    });
    const [bus, subjects, host, logger] = [this.#bus, this.#subjects, this.#host, log];
    const { hostsTtlMs } = await ensureStreams(bus, subjects, log);
    const onStreamMissing = () => {
      this.#restoreStreams().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error }, 'missing streams cannot be made anew');
      });
    };
    this.#registration = new Registration({
      bus,
      host,
      instanceId: journal.instanceId,
      startedAt: startedAt.toISOString(),
      ttlMs: hostsTtlMs,
      describe: () => this.#describe(config, version),
      onConflict: onFatal,
      onStreamMissing,
      logger,
    });
    await this.#registration.claim();
    this.#registration.start();
    const onDropped = () => metrics.eventDropped();
    this.#publisher = new Publisher({ bus, subjects, host, logger, onDropped, onStreamMissing });
    const onAltered = (what: string, data: Record<string, unknown>) => this.publishEvent('answer-altered', what, data);
    this.#outbox = new Outbox({ bus, subjects, store: journal, logger, onAltered, onStreamMissing });
    this.#outbox.start();
    const restore = () => this.#restoreStreams();
    this.#commands = new CommandStream({ bus, subjects, host, logger, onResume, onStreamMissing: restore });
  }

  /** Answers the read-only requests. */
  async serve(handlers: Readonly<Record<string, RequestHandler>>): Promise<void> {
    const [bus, subjects, host, logger] = [this.#bus!, this.#subjects, this.#host, this.#options.log];
    this.#service = await startService({ bus, subjects, host, version: this.#options.version, handlers, logger });
  }

  /**
   * Finishes the command in hand and takes no further ones. An answer that cannot be sent for want of a broker is not waited for: it
   * stays in the journal, and the next agent sends it. So does a dead letter.
   */
  async stopCommands(): Promise<void> {
    const giveUp = () => void Promise.allSettled([this.#outbox?.stop(), this.#publisher?.stop()]);
    const patience = setTimeout(giveUp, this.connected ? ANSWER_PATIENCE_MS : 0);
    await this.#commands?.stop();
    clearTimeout(patience);
  }

  async close(): Promise<void> {
    await this.#service?.stop();
    await this.#outbox?.stop();
    await this.#publisher?.stop();
    await this.#registration?.stop();
    await this.#bus?.close();
    await this.#ownBroker?.stop();
  }

  /** An object of the bus's object stores; see {@link openStoredObject}. Before the bus was joined, it is away. */
  async openObject(bucket: string, name: string, signal: AbortSignal): Promise<OpenedObject | undefined> {
    if (this.#bus !== undefined) return openStoredObject(this.#bus, bucket, name, signal);
    const message = `The object store ${bucket} cannot be read: NATS is not connected yet`;
    throw new AgentError('ARTIFACT_UNREACHABLE', message, { transient: true });
  }

  position(): Promise<StreamPosition> {
    return insist(this.#bus!, () => this.#commands.position());
  }

  at(seq: number): Promise<Delivery | undefined> {
    return insist(this.#bus!, () => this.#commands.at(seq));
  }

  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog> {
    return this.#commands.backlog(after, usable);
  }

  bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void> {
    return this.#commands.bodies(range, begin);
  }

  consume(after: number, handler: (delivery: Delivery) => Promise<Disposition>): Promise<void> {
    return this.#commands.consume(after, handler);
  }

  async flushOutbox(): Promise<void> {
    const { metrics, journal } = this.#options;
    metrics.setOutboxPending(journal.pending().length);
    await this.#outbox.flush();
    metrics.setOutboxPending(journal.pending().length);
  }

  /** Before the bus was joined, nobody is told. */
  publishEvent(kind: EventKind, message: string, data?: Record<string, unknown>): void {
    const { config, journal } = this.#options;
    const at = new Date().toISOString();
    const body = { host: config.hostName, instance_id: journal.instanceId, kind, at, message };
    this.#publisher?.event(kind, { ...body, ...(data !== undefined && { data }) });
  }

  /** A snapshot that cannot be stored is logged: the next one takes its place. */
  async publishSnapshot(): Promise<void> {
    const { log, snapshot } = this.#options;
    try {
      await this.#publisher?.snapshot(await snapshot());
    } catch (error) {
      log.warn({ err: error }, 'snapshot not stored');
    }
  }

  async publishMetrics(): Promise<void> {
    const { config, metrics } = this.#options;
    const at = new Date().toISOString();
    this.#publisher?.metrics({ host: config.hostName, at, metrics: await metrics.everything() });
  }

  async deadLetter(delivery: Delivery): Promise<void> {
    await this.#publisher?.deadLetter(delivery);
  }

  /** Milliseconds since the epoch by the server's clock. */
  serverNow(): number {
    return Date.now() + this.#registration.serverClockOffsetMs();
  }

  /** Makes what is missing of the streams, for everyone who misses one at that time, and registers this host again. */
  #restoreStreams(): Promise<void> {
    const { log, signal } = this.#options;
    this.#restoring ??= sleep(STREAM_SETTLE_MS, undefined, { signal })
      .then(() => ensureStreams(this.#bus!, this.#subjects, log))
      .then(() => this.#registration.hasten())
      .finally(() => {
        this.#restoring = undefined;
      });
    return this.#restoring;
  }

  async #servers(): Promise<readonly string[]> {
    const { config, log, signal, onFatal } = this.#options;
    const { natsUrl, stateDir } = config;
    if (natsUrl !== undefined) return natsUrl;
    this.#ownBroker = new OwnBroker({ stateDir, log, signal, connected: () => this.connected, onMoved: onFatal });
    return [await this.#ownBroker.start()];
  }

  #describe(config: Config, version: string) {
    const { journal, interfaces, features } = this.#options;
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
}

/** How to reach the broker, as it is configured. */
export function busOptions(config: Config, servers: readonly string[], signal: AbortSignal): BusOptions {
  return {
    servers,
    name: `l3af-agent ${config.hostName}`,
    credsFile: config.natsCreds,
    nkeyFile: config.natsNkey,
    tls: { caFile: config.natsTlsCa, certFile: config.natsTlsCert, keyFile: config.natsTlsKey },
    inboxPrefix: config.inboxPrefix,
    jsApiPrefix: config.jsApiPrefix,
    signal,
  };
}
