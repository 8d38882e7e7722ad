import type { KV } from 'nats';
import { AgentError } from '../errors.js';
import type { Registration as HostEntry } from '../messages/registration.js';
import { STREAMS } from '../messages/subjects.js';
import { pause } from './backoff.js';
import { openBucket } from './bucket.js';
import type { Bus } from './connect.js';
import type { Unsubscribe } from './connection.js';
import { insist } from './insist.js';
import type { Logger } from './logger.js';
import { API_ERROR, apiErrorOf, inWords, isNoResponders, isTransient } from './nats-errors.js';

export interface RegistrationOptions {
  readonly bus: Bus;
  /** The host's token: the key of its entry. */
  readonly host: string;
  /** Together with `startedAt` tells this run of the agent from every other; kept over restarts, it spares them the wait. */
  readonly instanceId: string;
  /** RFC 3339 */
  readonly startedAt: string;
  /** How long an entry lives unless it is renewed; {@link file://./streams.ts} tells. */
  readonly ttlMs: number;
  /** The rest of the entry, asked for at every heartbeat. */
  readonly describe: () => Omit<HostEntry, 'instance_id' | 'started_at' | 'seen_at'>;
  /** Called once, when another agent has taken this host's entry; heartbeats have ended then. */
  readonly onConflict: (error: AgentError) => void;
  /** Called, and not waited for, when the bucket is gone: another server may have come to this address. */
  readonly onStreamMissing?: () => void;
  readonly logger: Logger;
}

/** An entry as it stands in the bucket. */
interface Standing {
  /** What the next write must build on; 0 when there is nothing. */
  readonly revision: number;
  /** Undefined when there is none, or it was given up. */
  readonly entry: Pick<HostEntry, 'instance_id' | 'started_at'> | undefined;
  /** The server's time of writing, in milliseconds since the epoch. */
  readonly storedAtMs: number | undefined;
}

const BEATS_PER_LIFE = 3;
/** On top of the time to live: how late a heartbeat of a living agent may come. */
const MARGIN = 1.2;
const LOOKS_PER_LIFE = 20;

/** The host's entry in the registry: claimed against other agents of the same name, then kept alive by heartbeats. */
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
   * Takes the host's entry. If another agent holds it, watches whether that one still lives, for a time to live and a bit.
   *
   * @throws AgentError DUPLICATE_HOST when it does; BROKER_UNREACHABLE when stopped meanwhile; errors of nats.js that do not pass
   */
  async claim(): Promise<void> {
    const { bus, logger } = this.#options;
    const take = async () => this.#write((await this.#untilFree()).revision);
    await insist(bus, take, {
      signal: this.#stopping.signal,
      // A lost race for the entry shows in the next look at it.
      passes: (error) => isTransient(error) || apiErrorOf(error) === API_ERROR.wrongLastSequence,
      onRetry: (error) => logger.warn({ err: error }, 'Could not register this host; trying again'),
    });
  }

  /** Begins the heartbeats; after {@link claim}. */
  start(): void {
    this.#unsubscribe = this.#options.bus.connection.onReconnect(() => this.#wake.abort());
    this.#running = this.#beat();
  }

  /** Has the next heartbeat come now. */
  hasten(): void {
    this.#wake.abort();
  }

  /** Ends the heartbeats and gives the entry up, so that a successor need not wait. */
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
      this.#options.logger.debug({ err: error }, 'Could not give the registration up; it will lapse');
    }
  }

  /** The server's clock minus ours, in milliseconds, as of the last heartbeat: ages are judged by the server's clock. */
  serverClockOffsetMs(): number {
    return this.#offsetMs;
  }

  async #untilFree(): Promise<Standing> {
    const { ttlMs, logger } = this.#options;
    const first = await this.#read();
    if (first.entry === undefined || first.entry.instance_id === this.#options.instanceId) return first;
    logger.info(
      { holder: first.entry },
      'Another agent holds the registration of this host; watching whether it lives',
    );
    const deadline = performance.now() + ttlMs * MARGIN;
    while (performance.now() < deadline && !this.#stopping.signal.aborted) {
      await pause(ttlMs / LOOKS_PER_LIFE, this.#stopping.signal);
      const now = await this.#read();
      if (now.entry === undefined) return now;
      if (now.revision !== first.revision) throw duplicate(this.#options.host, now.entry.instance_id);
    }
    if (this.#stopping.signal.aborted) throw stopped();
    logger.warn({ holder: first.entry }, 'The other agent stands still; taking the registration over');
    return first;
  }

  async #beat(): Promise<void> {
    const { ttlMs, logger, bus } = this.#options;
    const { signal } = this.#stopping;
    let told = false;
    while (!signal.aborted && !bus.connection.closed.aborted) {
      this.#wake = new AbortController();
      await pause(ttlMs / BEATS_PER_LIFE, this.#wake.signal);
      await bus.connection.untilConnected(signal);
      if (signal.aborted) return;
      try {
        const conflict = await this.#renew();
        told = false;
        if (conflict === undefined) continue;
        this.#held = false;
        return this.#options.onConflict(conflict);
      } catch (error) {
        if (!told) logger.warn({ err: inWords(error, STREAMS.hosts) }, 'Heartbeat not stored; trying on');
        told = true;
        if (isNoResponders(error)) this.#options.onStreamMissing?.();
      }
    }
  }

  /** @returns the conflict, if another agent has written the entry since */
  async #renew(): Promise<AgentError | undefined> {
    try {
      await this.#write(this.#revision);
      return undefined;
    } catch (error) {
      if (apiErrorOf(error) !== API_ERROR.wrongLastSequence) throw error;
    }
    // Lapsed while we were away, or an answer to an earlier write of ours was lost; or somebody else's.
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
    this.#held = true;
    const { storedAtMs, revision: stored } = await this.#read();
    if (stored === this.#revision && storedAtMs !== undefined) this.#offsetMs = storedAtMs - (sentAt + confirmedAt) / 2;
  }

  async #read(): Promise<Standing> {
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

/** What cannot be read is nobody we know, and so a foreign one. */
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
  return new AgentError('BROKER_UNREACHABLE', 'Stopped before the registration was claimed', { transient: true });
}
