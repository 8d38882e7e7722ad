import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { AgentError } from '../errors.js';

export const BINARY = 'nats-server';
/** Where Debian installs it. Not every service has it in its PATH. */
const FALLBACK_DIR = '/usr/sbin';
/** The one user of the server. */
export const EMBEDDED_USER = 'l3af';
/** Lets the server choose a port. */
export const RANDOM_PORT = -1;
const PROBE_TIMEOUT_MS = 1_000;

/**
 * Path of the nats-server executable.
 *
 * @throws AgentError CONFIG_INVALID when it is not installed
 */
export async function findServer(dirs: readonly string[] = searchPath()): Promise<string> {
  for (const dir of dirs) {
    const path = join(dir, BINARY);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  throw new AgentError(
    'CONFIG_INVALID',
    `The embedded bus needs ${BINARY}, but it is neither in the PATH nor in ${FALLBACK_DIR}; ` +
      'install it (Debian: apt-get install nats-server) or configure the URL of a server',
  );
}

function searchPath(): string[] {
  return [...(process.env.PATH ?? '').split(delimiter).filter((dir) => dir !== ''), FALLBACK_DIR];
}

export interface ServerConfigOptions {
  readonly dir: string;
  readonly pidFile: string;
  readonly port: number;
  /** Of {@link EMBEDDED_USER}. */
  readonly password: string;
  /**
   * Sync each message to disk before it is confirmed, instead of every two minutes. `sync_interval` exists from server
   * 2.10 on; older servers refuse to start with it.
   */
  readonly syncAlways: boolean;
}

/** Strings in the server's configuration accept the escapes that JSON uses for paths. */
export function serverConfig({ dir, pidFile, port, password, syncAlways }: ServerConfigOptions): string {
  const quote = JSON.stringify;
  return [
    '# Written by the agent each time it starts the server; changes are lost.',
    `host: "127.0.0.1"`,
    `port: ${port}`,
    `pid_file: ${quote(pidFile)}`,
    `ports_file_dir: ${quote(dir)}`,
    `authorization { user: ${EMBEDDED_USER}, password: ${quote(password)} }`,
    'jetstream {',
    `  store_dir: ${quote(join(dir, 'jetstream'))}`,
    ...(syncAlways ? ['  sync_interval: always'] : []),
    '}',
    '',
  ].join('\n');
}

/** Whether the server accepts a configuration. */
export function takesConfig(binary: string, config: string): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(binary, ['-t', '-c', config], (error) => resolve(error === null));
  });
}

/** The client URL from the ports file of a running server; undefined until the server has written it. */
export async function urlFromPortsFile(dir: string, pid: number): Promise<string | undefined> {
  try {
    const ports: unknown = JSON.parse(await readFile(join(dir, `${BINARY}_${pid}.ports`), 'utf8'));
    if (typeof ports !== 'object' || ports === null || !('nats' in ports) || !Array.isArray(ports.nats))
      return undefined;
    const [url]: unknown[] = ports.nats;
    return typeof url === 'string' ? url : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a server at the URL accepts clients and has JetStream. Its first line, `INFO {…}`, says so. */
export function acceptsJetStream(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    let greeting = '';
    const answer = (accepts: boolean) => {
      socket.destroy();
      resolve(accepts);
    };
    socket.setEncoding('utf8');
    socket.setTimeout(PROBE_TIMEOUT_MS, () => answer(false));
    socket.once('error', () => answer(false));
    socket.once('close', () => answer(false));
    socket.on('data', (chunk: string) => {
      greeting += chunk;
      if (greeting.includes('\r\n')) answer(/"jetstream":\s*true/.test(greeting));
    });
  });
}
