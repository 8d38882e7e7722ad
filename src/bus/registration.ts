import type { KV } from 'nats';
import { AgentError, messageOf } from '../errors.js';
import type { HostEntry } from '../messages/host-entry.js';
import { STREAMS } from '../messages/subjects.js';
import { pause, pauseAfter } from '../retry.js';
import { openBucket } from './bucket.js';
import type { Bus } from './connect.js';
import type { Unsubscribe } from './connection.js';
import { EXCHANGE_BACKOFF, insist, isCurable } from './insist.js';
import type { BusLogger } from './logger.js';
import { API_ERROR, apiErrorOf, inWords, isNoResponders } from './nats-errors.js';

export interface RegistrationOptions {
  readonly bus: Bus;
  /** The host's token: the key of its entry. */
  readonly host: string;
  /**
   * Together with `startedAt` it identifies this run of the agent. It stays the same over restarts, so that a restarted
   * agent need not wait.
   */
  readonly instanceId: string;
  /** RFC 3339 */
  readonly startedAt: string;
  /** How long an entry lives unless it is renewed; see {@link file://./streams.ts}. */
  readonly ttlMs: number;
  /** Returns the rest of the entry. Called at every heartbeat. */
  readonly describe: () => Omit<HostEntry, 'instance_id' | 'started_at' | 'seen_at'>;
  /** Called once, when another agent has taken this host's entry. Heartbeats have ended by then. */
  readonly onConflict: (error: AgentError) => void;
  /** Called, but not awaited, when the bucket does not exist: another server may now be at this address. */
  readonly onStreamMissing?: () => void;
  readonly logger: BusLogger;
}

/** The entry as it is in the bucket now. */
interface RegistryEntry {
  /** The revision that the next write must name; 0 when there is no entry. */
  readonly revision: number;
  /** Undefined when there is no entry, or it was deleted. */
  readonly entry: Pick<HostEntry, 'instance_id' | 'started_at'> | undefined;
  /** The server's time of writing, in milliseconds since the epoch. */
  readonly storedAtMs: number | undefined;
}

const BEATS_PER_LIFE = 3;
/** Factor for the time to live: how late the heartbeat of a living agent may come. */
const MARGIN = 1.2;
const LOOKS_PER_LIFE = 20;

/**
 * The host's entry in the registry. It is claimed against other agents of the same name, then kept alive by heartbeats.
 */
export class Registration {
  readonly #options: RegistrationOptions;
  readonly #stopping = new AbortController();
  #wake = new AbortController();
  #unsubscribe: Unsubscribe = () => {};
  #revision = 0;
  #held = false;
  #offsetMs = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  /**
   * Takes the host's entry. If another agent holds it, watches whether that one is alive, for a little more than the
   * time to live.
   *
   * @throws AgentError DUPLICATE_HOST when it is alive; BROKER_UNREACHABLE when stopped meanwhile; errors that are
   *   no refusal
   */
  async claim(): Promise<void> {
    const { bus, logger } = this.#options;
    const take = async () => this.#write((await this.#untilFree()).revision);
    await insist(bus, take, {
      signal: this.#stopping.signal,
      // If another agent was faster, the next read of the entry shows it.
      passes: (error) => isCurable(error) || apiErrorOf(error) === API_ERROR.wrongLastSequence,
      onRetry: (error) => logger.warn({ err: this.#reported(error) }, 'could not register this host; trying again'),
    });
  }

  /** Begins the heartbeats. Call it after {@link claim}. */
  start(): void {
    this.#unsubscribe = this.#options.bus.connection.onReconnect(() => this.#wake.abort());
    this.#running = this.#beat();
  }

  /** Makes the next heartbeat happen now. */
  hasten(): void {
    this.#wake.abort();
  }

  /** Ends the heartbeats and deletes the entry, so that a successor need not wait. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    this.#wake.abort();
    await this.#running;
    if (!this.#held || !this.#options.bus.connection.connected) return;
    this.#held = false;
    try {
      const kv = await this.#bucket();
      await this.#guard(kv.delete(this.#options.host, { previousSeq: this.#revision }));
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'could not delete the registration; it will expire');
    }
  }

  /**
   * The server's clock minus the agent's, in milliseconds, as of the last heartbeat. Ages are judged by the server's
   * clock.
   */
  serverClockOffsetMs(): number {
    return this.#offsetMs;
  }

  async #untilFree(): Promise<RegistryEntry> {
    const { ttlMs, logger } = this.#options;
    const first = await this.#read();
    if (first.entry === undefined || first.entry.instance_id === this.#options.instanceId) return first;
    logger.info(
      { holder: first.entry },
      'another agent holds the registration of this host; watching whether it is alive',
    );
    const deadline = performance.now() + ttlMs * MARGIN;
    while (performance.now() < deadline && !this.#stopping.signal.aborted) {
      await pause(ttlMs / LOOKS_PER_LIFE, this.#stopping.signal);
      const now = await this.#read();
      if (now.entry === undefined) return now;
      if (now.revision !== first.revision) throw duplicate(this.#options.host, now.entry.instance_id);
    }
    if (this.#stopping.signal.aborted) throw stopped();
    logger.warn({ holder: first.entry }, 'the other agent sends no heartbeat; taking over the registration');
    return first;
  }

  async #beat(): Promise<void> {
    const { ttlMs, logger, bus } = this.#options;
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted && !bus.connection.closed.aborted) {
      this.#wake = new AbortController();
      const interval = ttlMs / BEATS_PER_LIFE;
      const wait = failures === 0 ? interval : Math.min(interval, pauseAfter(failures, EXCHANGE_BACKOFF));
      await pause(wait, this.#wake.signal);
      await bus.connection.untilConnected(signal);
      if (signal.aborted) return;
      try {
        const conflict = await this.#renew();
        failures = 0;
        if (conflict === undefined) continue;
        this.#held = false;
        return this.#options.onConflict(conflict);
      } catch (error) {
        const err = this.#reported(error);
        if (failures === 0) logger.warn({ err }, 'could not store the heartbeat; trying again');
        failures += 1;
        if (isNoResponders(error)) this.#options.onStreamMissing?.();
      }
    }
  }

  /** @returns the error in words */
  #reported(error: unknown): unknown {
    const { nc, connection, troubles } = this.#options.bus;
    const words = inWords(error, { stream: STREAMS.hosts, maxPayload: nc.info?.max_payload });
    if (connection.connected) troubles.begin('storing', STREAMS.hosts, messageOf(words));
    return words;
  }

  /** @returns the conflict, if another agent has written the entry since */
  async #renew(): Promise<AgentError | undefined> {
    try {
      await this.#write(this.#revision);
      return undefined;
    } catch (error) {
      if (apiErrorOf(error) !== API_ERROR.wrongLastSequence) throw error;
    }
    // The entry expired while the connection was down, or the answer to an earlier write was lost, or another agent has
    // written it.
    const { entry, revision } = await this.#read();
    if (entry !== undefined && !this.#isOurs(entry)) return duplicate(this.#options.host, entry.instance_id);
    await this.#write(revision);
    return undefined;
  }

  async #write(revision: number): Promise<void> {
    const { host, instanceId, startedAt, describe } = this.#options;
    const kv = await this.#bucket();
    const sentAt = Date.now();
    const entry: HostEntry = {
      ...describe(),
      instance_id: instanceId,
      started_at: startedAt,
      seen_at: new Date(sentAt).toISOString(),
    };
    this.#revision = await this.#guard(kv.put(host, JSON.stringify(entry), { previousSeq: revision }));
    const confirmedAt = Date.now();
    this.#options.bus.troubles.end('storing', STREAMS.hosts);
    this.#held = true;
    const { storedAtMs, revision: stored } = await this.#read();
    if (stored === this.#revision && storedAtMs !== undefined) this.#offsetMs = storedAtMs - (sentAt + confirmedAt) / 2;
  }

  async #read(): Promise<RegistryEntry> {
    const kv = await this.#bucket();
    const found = await this.#guard(kv.get(this.#options.host));
    if (found === null) return { revision: 0, entry: undefined, storedAtMs: undefined };
    const entry = found.operation === 'PUT' ? identityOf(found.string()) : undefined;
    return { revision: found.revision, entry, storedAtMs: found.created.getTime() };
  }

  #isOurs(entry: Pick<HostEntry, 'instance_id' | 'started_at'>): boolean {
    return entry.instance_id === this.#options.instanceId && entry.started_at === this.#options.startedAt;
  }

  #bucket(): Promise<KV> {
    return openBucket(this.#options.bus, STREAMS.hosts);
  }

  #guard<T>(exchange: Promise<T>): Promise<T> {
    return this.#options.bus.connection.guard(exchange);
  }
}

/** An entry that cannot be read counts as one of a foreign agent. */
function identityOf(text: string): Pick<HostEntry, 'instance_id' | 'started_at'> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const { instance_id: instanceId, started_at: startedAt } = (value ?? {}) as Record<string, unknown>;
  return { instance_id: String(instanceId ?? 'unknown'), started_at: String(startedAt ?? 'unknown') };
}

function duplicate(host: string, instanceId: string): AgentError {
  return new AgentError(
    'DUPLICATE_HOST',
    `Another agent, instance ${instanceId}, runs for host ${host}; stop it, or give one of the two another host id`,
  );
}

function stopped(): AgentError {
  return new AgentError('BROKER_UNREACHABLE', 'The agent was stopped before it could register the host', {
    transient: true,
  });
}
