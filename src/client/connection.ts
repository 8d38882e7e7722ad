import { ErrorCode as NatsCode, type NatsConnection, NatsError } from 'nats';
import { accessOptions, dial, type ServerAccess } from '../bus/access.js';
import { isNoResponders } from '../bus/nats-errors.js';
import { connectionRefusal, continued } from '../bus/refusals.js';
import { AgentError } from '../errors.js';

export interface ConnectOptions extends ServerAccess {
  /** Shown by the server in its list of connections. */
  readonly name?: string | undefined;
  /** First token or tokens of every subject; `l3af` by default. */
  readonly prefix?: string | undefined;
  /** First tokens of reply subjects; `_INBOX` unless the account uses its own. */
  readonly inboxPrefix?: string | undefined;
  /** `$JS.API` unless JetStream is in another account. */
  readonly jsApiPrefix?: string | undefined;
  /** How long one exchange with the server may take; 5000 by default. */
  readonly timeoutMs?: number | undefined;
}

export const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * Connects once. A connection that is lost later is restored without limit.
 *
 * @throws AgentError CONFIG_INVALID for a file that cannot be used, BROKER_UNREACHABLE
 */
export async function openConnection(options: ConnectOptions): Promise<NatsConnection> {
  const access = accessOptions(options);
  try {
    return await dial({
      ...access,
      name: options.name ?? 'l3af-client',
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      ...(options.inboxPrefix !== undefined && { inboxPrefix: options.inboxPrefix }),
    });
  } catch (cause) {
    const message = `Cannot connect to NATS at ${access.servers}: ${continued(connectionRefusal(cause).message)}`;
    throw new AgentError('BROKER_UNREACHABLE', message, { cause, transient: true });
  }
}

/** Whether the server reported that nobody listens on a subject, or that a stream does not exist. */
export function isNobodyThere(error: unknown): boolean {
  return isNoResponders(error) || (error instanceof NatsError && error.api_error?.code === 404);
}

/**
 * Whether a stream refused a message because another one on its subject was stored first (JSStreamWrongLastSequenceErrF
 * of nats-server).
 */
export function isTooLate(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === 10071;
}

export function isTimeout(error: unknown): boolean {
  return error instanceof NatsError && (error.code === NatsCode.Timeout || error.code === NatsCode.RequestError);
}
