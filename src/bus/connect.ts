import {
  type ConnectionOptions,
  connect,
  type JetStreamClient,
  type JetStreamManager,
  type JetStreamManagerOptions,
  type NatsConnection,
} from 'nats';
import { AgentError } from '../errors.js';
import { accessOptions, type ServerAccess } from './access.js';
import { pause, retryDelay, spread } from './backoff.js';
import { ConnectionWatch } from './connection.js';
import { type Logger, messageOf } from './logger.js';

export interface BusOptions extends ServerAccess {
  /** Shown by the server in its list of connections. */
  readonly name: string;
  /** First tokens of reply subjects; `_INBOX` unless the account wants its own. */
  readonly inboxPrefix?: string | undefined;
  /** `$JS.API` unless JetStream lives in another account. */
  readonly jsApiPrefix?: string | undefined;
  /** Ends the wait for the first connection. */
  readonly signal?: AbortSignal | undefined;
}

/** A connection with all that hangs on it. */
export interface Bus {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly connection: ConnectionWatch;
  /** Where JetStream's API is, without a dot at the end. */
  readonly jsApiPrefix: string;
  readonly inboxPrefix: string;
  /** Sends what is waiting, as far as the server takes it within a moment, and closes. */
  close(): Promise<void>;
}

const JS_API_PREFIX = '$JS.API';
const INBOX_PREFIX = '_INBOX';
const CONNECT_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 20_000;
const RECONNECT_FIRST_MS = 250;
const RECONNECT_CAP_MS = 10_000;
/** JetStream answers late while it recovers large streams or elects a leader. */
const JETSTREAM_TIMEOUT_MS = 10_000;
const CLOSE_FLUSH_MS = 2_000;

/**
 * Connects to NATS, trying for as long as it takes: the datapath does not depend on the bus. Once connected, a lost connection is
 * restored without end. Credentials are read again for each attempt, so that they can be renewed under a running agent.
 *
 * @throws AgentError CONFIG_INVALID when a credentials or TLS file cannot be used; BROKER_UNREACHABLE when `signal` ends the wait
 */
export async function connectBus(options: BusOptions, logger: Logger): Promise<Bus> {
  const inboxPrefix = options.inboxPrefix ?? INBOX_PREFIX;
  const jsApiPrefix = options.jsApiPrefix ?? JS_API_PREFIX;
  let watch: ConnectionWatch | undefined;
  const pace = spread(1);
  const connectionOptions: ConnectionOptions = {
    ...accessOptions(options),
    name: options.name,
    timeout: CONNECT_TIMEOUT_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: 2,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    // nats.js asks again after each wait, so a delay that follows the length of the outage backs off by itself.
    reconnectDelayHandler: () => pace * Math.min(RECONNECT_CAP_MS, RECONNECT_FIRST_MS + (watch?.downMs ?? 0) / 4),
    inboxPrefix,
  };

  const nc = await firstConnection(connectionOptions, options, logger);
  watch = new ConnectionWatch(nc, logger);
  watch.start();
  const jetstream: JetStreamManagerOptions = { apiPrefix: jsApiPrefix, timeout: JETSTREAM_TIMEOUT_MS, checkAPI: false };
  const js = nc.jetstream(jetstream);
  const jsm = await nc.jetstreamManager(jetstream);
  return { nc, js, jsm, connection: watch, jsApiPrefix, inboxPrefix, close: () => close(nc, watch) };
}

async function firstConnection(
  connectionOptions: ConnectionOptions,
  { signal }: BusOptions,
  logger: Logger,
): Promise<NatsConnection> {
  const { servers } = connectionOptions;
  let told: string | undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      const nc = await connect(connectionOptions);
      logger.info({ server: nc.getServer(), version: nc.info?.version }, 'Connected to NATS');
      return nc;
    } catch (error) {
      const reason = messageOf(error);
      if (reason !== told) logger.warn({ servers, err: error }, 'NATS cannot be reached; trying on');
      told = reason;
      await pause(retryDelay(attempt, { firstMs: RECONNECT_FIRST_MS, capMs: RECONNECT_CAP_MS }), signal);
      if (signal?.aborted) {
        throw new AgentError('BROKER_UNREACHABLE', `Gave up connecting to NATS at ${servers}: ${reason}`, {
          cause: error,
          transient: true,
        });
      }
    }
  }
}

async function close(nc: NatsConnection, { connected }: ConnectionWatch): Promise<void> {
  if (nc.isClosed()) return;
  if (connected) {
    const enough = new AbortController();
    await Promise.race([nc.flush().catch(() => {}), pause(CLOSE_FLUSH_MS, enough.signal)]);
    enough.abort();
  }
  await nc.close();
}
