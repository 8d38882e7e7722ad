import { readFileSync } from 'node:fs';
import { checkServerIdentity, type PeerCertificate, type ConnectionOptions as TlsOptions } from 'node:tls';
import {
  type Authenticator,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from 'nats';
import { AgentError, messageOf } from '../errors.js';
import { codesOf } from './refusals.js';

/** Before JetStream's subjects, unless JetStream is in another account. */
export const JS_API_PREFIX = '$JS.API';
/** Before reply subjects, unless the account uses its own. */
export const INBOX_PREFIX = '_INBOX';

/** Which servers to connect to, and with which credentials. */
export interface ServerAccess {
  /** URLs, `nats://` or `tls://`. The first one may contain `user:password@`. */
  readonly servers: readonly string[];
  readonly credsFile?: string | undefined;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string | undefined;
  /** File with the name of the user; together with {@link passwordFile}. */
  readonly userFile?: string | undefined;
  readonly passwordFile?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly tls?: TlsAccess | undefined;
}

export interface TlsAccess {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Whether the server waits for the TLS handshake before it says anything (`handshake_first` of nats-server 2.10). */
  readonly handshakeFirst?: boolean | undefined;
}

/**
 * The connection options for this access. Credentials are read again for each attempt, so that they can be renewed
 * while the process runs.
 *
 * @throws AgentError CONFIG_INVALID when a file cannot be used, or an address is invalid
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
  userFile,
  passwordFile,
  tokenFile,
}: ServerAccess): Pick<ConnectionOptions, 'authenticator' | 'user' | 'pass'> {
  if (credsFile !== undefined) return { authenticator: reloading([credsFile], ([creds]) => credsAuthenticator(creds)) };
  if (nkeyFile !== undefined) return { authenticator: reloading([nkeyFile], ([seed]) => nkeyFromFile(seed)) };
  if (tokenFile !== undefined)
    return { authenticator: reloading([tokenFile], ([token]) => tokenAuthenticator(lineOf(token, tokenFile))) };
  if (userFile !== undefined || passwordFile !== undefined) return { authenticator: userFrom(userFile, passwordFile) };
  const { username = '', password = '' } = servers[0] === undefined ? {} : parseUrl(servers[0]);
  return username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
}

function userFrom(userFile: string | undefined, passwordFile: string | undefined): Authenticator {
  if (userFile === undefined || passwordFile === undefined) {
    const message = 'The file of the user and the file of the password only work together; name both or neither';
    throw new AgentError('CONFIG_INVALID', message);
  }
  return reloading([userFile, passwordFile], ([user, password]) =>
    usernamePasswordAuthenticator(lineOf(user, userFile), lineOf(password, passwordFile)),
  );
}

/**
 * The one line of a file, without its end. Blanks at its ends count: they may be part of a password.
 *
 * @throws AgentError CONFIG_INVALID for any other file
 */
function lineOf(content: Uint8Array, file: string): string {
  const line = new TextDecoder().decode(content).replace(/\r?\n$/, '');
  if (line !== '' && !/[\r\n]/.test(line)) return line;
  throw new AgentError('CONFIG_INVALID', `Expected one line in ${file}, got ${line === '' ? 'none' : 'several'}`);
}

/** nats.js neither reads nor hides the part before the `@`. */
function withoutCredentials(server: string): string {
  const url = parseUrl(server);
  return `${url.protocol}//${url.host}`;
}

/** nats.js takes any scheme for its own protocol over TCP. */
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

type Contents<Files extends readonly string[]> = { readonly [K in keyof Files]: Uint8Array };

/**
 * An authenticator that reads its files again each time. It must not throw when one is unreadable at that moment:
 * nats.js would close the connection for good. It uses the last contents that worked instead.
 */
function reloading<const Files extends readonly string[]>(
  files: Files,
  make: (contents: Contents<Files>) => Authenticator,
): Authenticator {
  const readAll = (read: (file: string) => Uint8Array) => make(files.map(read) as unknown as Contents<Files>);
  let last = readAll(readOrRefuse);
  return (nonce) => {
    try {
      const fresh = readAll((file) => readFileSync(file));
      const answer = fresh(nonce);
      last = fresh;
      return answer;
    } catch {
      return last(nonce);
    }
  };
}

function encryption({ servers, tls = {} }: ServerAccess): Pick<ConnectionOptions, 'tls'> {
  const { handshakeFirst = false, ...files } = tls;
  const named = Object.entries(files).filter((entry): entry is [string, string] => entry[1] !== undefined);
  for (const [, file] of named) readOrRefuse(file);
  // nats.js ignores the scheme.
  const wanted = handshakeFirst || named.length > 0 || servers.some((server) => server.startsWith('tls:'));
  return wanted
    ? { tls: { ...Object.fromEntries(named), ...(handshakeFirst && { handshakeFirst }), ...VERIFIED } }
    : {};
}

/**
 * Verifies that a certificate is for the server that was meant. For one named by its address nats.js gives Node neither
 * a name nor the address, and Node would verify "localhost" (nats.js#303). The address is that of the socket.
 */
function identityOf(this: TlsOptions, hostname: string, certificate: PeerCertificate): Error | undefined {
  const { servername, host, socket } = this as TlsOptions & { readonly socket?: { readonly remoteAddress?: string } };
  const named = servername === undefined || servername === '' ? host : servername;
  return checkServerIdentity(named ?? socket?.remoteAddress ?? hostname, certificate);
}

/** nats.js passes this on to Node. Its declaration names less. */
const VERIFIED = { checkServerIdentity: identityOf } as object;

/**
 * Connects once. A server that demands TLS although none was asked for is verified like any other: nats.js passes on
 * how to do that only if TLS was asked for.
 *
 * @throws errors of nats.js and of Node
 */
export async function dial(options: ConnectionOptions): Promise<NatsConnection> {
  try {
    return await connectOnce(options);
  } catch (error) {
    const misnamed = codesOf(error).includes('ERR_TLS_CERT_ALTNAME_INVALID');
    if (!misnamed || options.tls) throw error;
    return await connectOnce({ ...options, tls: VERIFIED });
  }
}

/**
 * First with the given servers alone. Each server of a cluster names the others, also when it refuses a client, and
 * nats.js tries a server that was named again: a client that all of them refuse would go round for ever, without an
 * error and without an end.
 */
async function connectOnce(options: ConnectionOptions): Promise<NatsConnection> {
  const connection = await connect({ ...options, ignoreClusterUpdates: true });
  if ((connection.info?.connect_urls ?? []).length === 0) return connection;
  // It is to know the others, in case its server goes.
  await connection.close();
  return connect(options);
}

function readOrRefuse(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new AgentError(
      'CONFIG_INVALID',
      `Cannot read ${file}, which the NATS configuration names: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
