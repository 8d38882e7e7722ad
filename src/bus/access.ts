import { readFileSync } from 'node:fs';
import { type Authenticator, type ConnectionOptions, credsAuthenticator, nkeyAuthenticator } from 'nats';
import { AgentError } from '../errors.js';
import { messageOf } from './logger.js';

/** Which servers to connect to, and as whom. */
export interface ServerAccess {
  /** URLs, `nats://` or `tls://`; the first may carry `user:password@`. */
  readonly servers: readonly string[];
  readonly credsFile?: string | undefined;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string | undefined;
  readonly tls?: TlsFiles | undefined;
}

export interface TlsFiles {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/**
 * The part of a connection's options that follows from it. Credentials are read again for each attempt, so that they can be renewed under a
 * process that runs.
 *
 * @throws AgentError CONFIG_INVALID when a file cannot be used, or an address is none
 */
export function accessOptions(
  access: ServerAccess,
): Pick<ConnectionOptions, 'servers' | 'authenticator' | 'user' | 'pass' | 'tls'> {
  return { ...authentication(access), ...encryption(access), servers: access.servers.map(withoutCredentials) };
}

function authentication({
  servers,
  credsFile,
  nkeyFile,
}: ServerAccess): Pick<ConnectionOptions, 'authenticator' | 'user' | 'pass'> {
  if (credsFile !== undefined) return { authenticator: reloading(credsFile, credsAuthenticator) };
  if (nkeyFile !== undefined) return { authenticator: reloading(nkeyFile, nkeyFromFile) };
  const { username = '', password = '' } = servers[0] === undefined ? {} : parseUrl(servers[0]);
  return username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
}

/** nats.js neither reads nor hides what stands before the `@`. */
function withoutCredentials(server: string): string {
  const url = parseUrl(server);
  return `${url.protocol}//${url.host}`;
}

/** nats.js would take any scheme for its own protocol over TCP. */
const SCHEMES = ['nats:', 'tls:'];

function parseUrl(server: string): URL {
  let url: URL;
  try {
    url = new URL(server.includes('://') ? server : `nats://${server}`);
  } catch (error) {
    throw noAddress(server, error);
  }
  if (!SCHEMES.includes(url.protocol) || url.hostname === '') throw noAddress(`${url.protocol}//${url.host}`);
  return url;
}

function noAddress(shown: string, cause?: unknown): AgentError {
  const message = `Expected a NATS server as nats://<host>:<port>, tls://<host>:<port> or <host>:<port>, got ${shown}`;
  return new AgentError('CONFIG_INVALID', message, { cause });
}

function nkeyFromFile(content: Uint8Array): Authenticator {
  return nkeyAuthenticator(new TextEncoder().encode(new TextDecoder().decode(content).trim()));
}

/**
 * An authenticator that reads its file again each time. A file that is unreadable at that moment must not throw: nats.js would close
 * the connection for good. The last content that worked is used instead.
 */
function reloading(file: string, make: (content: Uint8Array) => Authenticator): Authenticator {
  let last = make(readOrRefuse(file));
  return (nonce) => {
    try {
      const fresh = make(readFileSync(file));
      const answer = fresh(nonce);
      last = fresh;
      return answer;
    } catch {
      return last(nonce);
    }
  };
}

function encryption({ servers, tls: files = {} }: ServerAccess): Pick<ConnectionOptions, 'tls'> {
  const named = Object.entries(files).filter((entry): entry is [string, string] => entry[1] !== undefined);
  // nats.js takes no notice of the scheme.
  if (named.length === 0 && !servers.some((server) => server.startsWith('tls:'))) return {};
  for (const [, file] of named) readOrRefuse(file);
  return { tls: Object.fromEntries(named) };
}

function readOrRefuse(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Cannot read ${file}, which the configuration of NATS names: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
