import { connect, ErrorCode as NatsCode, type NatsConnection, NatsError } from 'nats';
import { accessOptions, type ServerAccess } from '../bus/access.js';
import { AgentError } from '../errors.js';

export interface ConnectOptions extends ServerAccess {
  /** Shown by the server in its list of connections. */
  readonly name?: string | undefined;
  /** First token or tokens of every subject; `l3af` unless given. */
  readonly prefix?: string | undefined;
  /** First tokens of reply subjects; `_INBOX` unless the account wants its own. */
  readonly inboxPrefix?: string | undefined;
  /** `$JS.API` unless JetStream lives in another account. */
  readonly jsApiPrefix?: string | undefined;
  /** How long one exchange with the server may take; 5000 unless given. */
  readonly timeoutMs?: number | undefined;
}

export const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * Connects once; a connection that is lost later is restored without end.
 *
 * @throws AgentError CONFIG_INVALID for a file that cannot be used, BROKER_UNREACHABLE
 */
export async function openConnection(options: ConnectOptions): Promise<NatsConnection> {
  const access = accessOptions(options);
  try {
    return await connect({
      ...access,
      name: options.name ?? 'l3af-client',
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      ...(options.inboxPrefix !== undefined && { inboxPrefix: options.inboxPrefix }),
    });
  } catch (cause) {
    const message = `Cannot connect to NATS at ${access.servers}: ${reasonOf(cause)}`;
    throw new AgentError('BROKER_UNREACHABLE', message, { cause, transient: true });
  }
}

const REASONS: Readonly<Record<string, string>> = {
  [NatsCode.ConnectionRefused]: 'the connection was refused; is the server running there?',
  [NatsCode.Timeout]: 'no answer in time',
  [NatsCode.ConnectionTimeout]: 'no answer in time',
  [NatsCode.AuthorizationViolation]: 'the server refused the credentials',
  [NatsCode.AuthenticationExpired]: 'the credentials have expired',
  [NatsCode.PermissionsViolation]: 'the account lacks the permission',
  [NatsCode.ConnectionClosed]: 'the connection is closed',
  [NatsCode.Disconnect]: 'the connection was lost',
};

/** Why NATS failed, for people. */
export function reasonOf(error: unknown): string {
  if (error instanceof NatsError) {
    const known = REASONS[error.code];
    if (known !== undefined) return known;
    if (/getaddrinfo (ENOTFOUND|EAI_AGAIN)/.test(error.message)) return 'the name of the server cannot be resolved';
    return error.api_error?.description ?? error.message;
  }
  return error instanceof Error ? error.message : String(error);
}

/** Whether the server said that nobody listens on a subject, or that a stream does not exist. */
export function isNobodyThere(error: unknown): boolean {
  return error instanceof NatsError && (error.code === NatsCode.NoResponders || error.api_error?.code === 404);
}

/** Whether a stream refused a message since another one on its subject came first (JSStreamWrongLastSequenceErrF of nats-server). */
export function isTooLate(error: unknown): boolean {
  return error instanceof NatsError && error.api_error?.err_code === 10071;
}

export function isTimeout(error: unknown): boolean {
  return error instanceof NatsError && (error.code === NatsCode.Timeout || error.code === NatsCode.RequestError);
}
