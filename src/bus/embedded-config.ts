import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { AgentError } from '../errors.js';

export const BINARY = 'nats-server';
/** Where Debian installs it; not on every service's PATH. */
const FALLBACK_DIR = '/usr/sbin';
/** Lets the server choose. */
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
      // Not here.
    }
  }
  throw new AgentError(
    'CONFIG_INVALID',
    `The embedded bus needs ${BINARY}, which is neither on the PATH nor in ${FALLBACK_DIR}; ` +
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
  /**
   * Sync each message to disk before it is confirmed, instead of every two minutes. Servers know `sync_interval` from 2.10 on; older
   * ones refuse to start with it.
   */
  readonly syncAlways: boolean;
}

/** Strings of the server's configuration take the escapes that JSON writes for paths. */
export function serverConfig({ dir, pidFile, port, syncAlways }: ServerConfigOptions): string {
  const quote = JSON.stringify;
  return [
    '# Written by the agent whenever it starts the server; changes are lost.',
    `host: "127.0.0.1"`,
    `port: ${port}`,
    `pid_file: ${quote(pidFile)}`,
    `ports_file_dir: ${quote(dir)}`,
    'jetstream {',
    `  store_dir: ${quote(join(dir, 'jetstream'))}`,
    ...(syncAlways ? ['  sync_interval: always'] : []),
    '}',
    '',
  ].join('\n');
}

/** Whether the server would start with a configuration. */
export function takesConfig(binary: string, config: string): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(binary, ['-t', '-c', config], (error) => resolve(error === null));
  });
}

/** The client URL that a running server has written for us; undefined until it has. */
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

/** Whether a server at the URL greets clients and has JetStream: its first line says so, `INFO {…}`. */
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
