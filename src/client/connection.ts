import { readFileSync } from 'node:fs';
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  ErrorCode as NatsCode,
  type NatsConnection,
  NatsError,
  nkeyAuthenticator,
  type TlsOptions,
} from 'nats';
import { AgentError } from '../errors.js';

export interface ConnectOptions {
  /** URLs, as `nats://127.0.0.1:4222` or `tls://…`. */
  readonly servers: readonly string[];
  /** Shown by the server in its list of connections. */
  readonly name?: string | undefined;
  /** First token or tokens of every subject; `l3af` unless given. */
  readonly prefix?: string | undefined;
  readonly credsFile?: string | undefined;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string | undefined;
  readonly tls?: TlsFiles | undefined;
  /** First tokens of reply subjects; `_INBOX` unless the account wants its own. */
  readonly inboxPrefix?: string | undefined;
  /** `$JS.API` unless JetStream lives in another account. */
  readonly jsApiPrefix?: string | undefined;
  /** How long one exchange with the server may take; 5000 unless given. */
  readonly timeoutMs?: number | undefined;
}

export interface TlsFiles {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

export const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * Connects once; a connection that is lost later is restored without end.
 *
 * @throws AgentError CONFIG_INVALID for a file that cannot be used, BROKER_UNREACHABLE
 */
export async function openConnection(options: ConnectOptions): Promise<NatsConnection> {
  const authenticator = authenticatorOf(options);
  const tls = tlsOf(options.tls);
  try {
    return await connect({
      servers: [...options.servers],
      name: options.name ?? 'l3af-client',
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      ...(authenticator !== undefined && { authenticator }),
      ...(tls !== undefined && { tls }),
      ...(options.inboxPrefix !== undefined && { inboxPrefix: options.inboxPrefix }),
    });
  } catch (cause) {
    const message = `Cannot connect to NATS at ${options.servers.join(', ')}: ${reasonOf(cause)}`;
    throw new AgentError('BROKER_UNREACHABLE', message, { cause, transient: true });
  }
}

function authenticatorOf({ credsFile, nkeyFile }: ConnectOptions): Authenticator | undefined {
  if (credsFile !== undefined) return credsAuthenticator(readOrRefuse(credsFile));
  if (nkeyFile === undefined) return undefined;
  return nkeyAuthenticator(new TextEncoder().encode(readOrRefuse(nkeyFile).toString('utf8').trim()));
}

function tlsOf(files: TlsFiles | undefined): TlsOptions | undefined {
  const named = Object.entries(files ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined);
  if (named.length === 0) return undefined;
  for (const [, file] of named) readOrRefuse(file);
  return Object.fromEntries(named);
}

function readOrRefuse(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new AgentError('CONFIG_INVALID', `Cannot read ${file}: ${(cause as Error).message}`, { cause });
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
    return error.api_error?.description ?? error.message;
  }
  return error instanceof Error ? error.message : String(error);
}

/** Whether the server said that nobody listens on a subject, or that a stream does not exist. */
export function isNobodyThere(error: unknown): boolean {
  return error instanceof NatsError && (error.code === NatsCode.NoResponders || error.api_error?.code === 404);
}

export function isTimeout(error: unknown): boolean {
  return error instanceof NatsError && (error.code === NatsCode.Timeout || error.code === NatsCode.RequestError);
}
