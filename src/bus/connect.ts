import type {
  ConnectionOptions,
  JetStreamClient,
  JetStreamManager,
  JetStreamManagerOptions,
  NatsConnection,
} from 'nats';
import { AgentError } from '../errors.js';
import { pause, retry, spread } from '../retry.js';
import { accessOptions, dial, INBOX_PREFIX, JS_API_PREFIX, type ServerAccess } from './access.js';
import { ConnectionWatch } from './connection.js';
import type { BusLogger } from './logger.js';
import { connectionRefusal, continued } from './refusals.js';
import { Troubles } from './troubles.js';

export interface BusOptions extends ServerAccess {
  /** Shown by the server in its list of connections. */
  readonly name: string;
  /** First tokens of reply subjects; `_INBOX` unless the account uses its own. */
  readonly inboxPrefix?: string | undefined;
  /** `$JS.API` unless JetStream is in another account. */
  readonly jsApiPrefix?: string | undefined;
  /** Called when the first connection cannot be made, with the reason in words, whenever that is another one. */
  readonly onRefused?: ((reason: string) => void) | undefined;
  /** Ends the wait for the first connection. */
  readonly signal?: AbortSignal | undefined;
}

/** A connection and everything that belongs to it. */
export interface Bus {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly connection: ConnectionWatch;
  /** What does not work at the moment although there is a connection. */
  readonly troubles: Troubles;
  /** Prefix of JetStream's API, without a dot at the end. */
  readonly jsApiPrefix: string;
  readonly inboxPrefix: string;
  /** Sends the pending messages, if the server takes them within a moment, and closes. */
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 20_000;
const RECONNECT = { firstMs: 250, capMs: 10_000, isSpread: true };
/** JetStream answers late while it recovers large streams or elects a leader. */
const JETSTREAM_TIMEOUT_MS = 10_000;
const CLOSE_FLUSH_MS = 2_000;

/**
 * Connects to NATS. Retries without limit, because the datapath does not depend on the bus. Once connected, a lost
 * connection is restored, also without limit. Credentials are read again for each attempt, so that they can be renewed
 * while the agent runs.
 *
 * @throws AgentError CONFIG_INVALID when a credentials or TLS file cannot be used; BROKER_UNREACHABLE when `signal`
 *   ends the wait
 */
export async function connectBus(options: BusOptions, logger: BusLogger): Promise<Bus> {
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
    // nats.js asks again after each wait. A delay that grows with the length of the outage is therefore a back-off.
    reconnectDelayHandler: () => pace * Math.min(RECONNECT.capMs, RECONNECT.firstMs + (watch?.downMs ?? 0) / 4),
    inboxPrefix,
  };

  const nc = await firstConnection(connectionOptions, options, logger);
  watch = new ConnectionWatch(nc, logger);
  watch.start();
  const jetstream: JetStreamManagerOptions = { apiPrefix: jsApiPrefix, timeout: JETSTREAM_TIMEOUT_MS, checkAPI: false };
  const js = nc.jetstream(jetstream);
  const jsm = await nc.jetstreamManager(jetstream);
  return {
    nc,
    js,
    jsm,
    connection: watch,
    troubles: new Troubles(),
    jsApiPrefix,
    inboxPrefix,
    close: () => close(nc, watch),
  };
}

async function firstConnection(
  connectionOptions: ConnectionOptions,
  { signal, onRefused }: BusOptions,
  logger: BusLogger,
): Promise<NatsConnection> {
  const { servers } = connectionOptions;
  let told: string | undefined;
  const onRetry = (error: unknown) => {
    const refusal = connectionRefusal(error);
    if (refusal.message === told) return;
    told = refusal.message;
    logger.warn({ servers, err: refusal }, 'cannot connect to NATS; trying again');
    onRefused?.(refusal.message);
  };
  try {
    const nc = await retry(() => dial(connectionOptions), { backoff: RECONNECT, signal, onRetry });
    logger.info({ server: nc.getServer(), version: nc.info?.version }, 'connected to NATS');
    return nc;
  } catch (cause) {
    const { message: reason } = connectionRefusal(cause);
    const message = `Gave up connecting to NATS at ${servers}: ${continued(reason)}`;
    throw new AgentError('BROKER_UNREACHABLE', message, { cause, transient: true });
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
