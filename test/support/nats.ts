import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { atExit } from './last-resort.js';

/** A real nats-server with JetStream, on a port and a store of its own. */
export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly storeDir: string;
  /** Ends the process and waits for its end. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again after a kill, on the same port and store. */
  restart(): Promise<void>;
  /** Copies the store aside; the server must be down. */
  saveStore(): Promise<void>;
  /** Puts the saved store back; the server must be down. */
  putBackStore(): Promise<void>;
  /** Ends the process and removes what it left. */
  stop(): Promise<void>;
}

export interface TestServerOptions {
  readonly storeDir?: string;
  readonly port?: number;
  /** Further lines of the server's configuration, as accounts and permissions. */
  readonly config?: string;
}

const START_DEADLINE_MS = 10_000;

export async function startNats(options: TestServerOptions = {}): Promise<TestServer> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-nats-'));
  const storeDir = options.storeDir ?? join(dir, 'store');
  const port = options.port ?? (await freePort());
  const config = join(dir, 'server.conf');
  await writeFile(
    config,
    [
      'host: "127.0.0.1"',
      `port: ${port}`,
      `jetstream { store_dir: ${JSON.stringify(storeDir)} }`,
      options.config ?? '',
    ].join('\n'),
  );
  let child = await launch(config, port);
  const kill = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  };
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    storeDir,
    kill,
    restart: async () => {
      await kill('SIGTERM');
      child = await launch(config, port);
    },
    saveStore: () => cp(storeDir, join(dir, 'saved'), { recursive: true }),
    putBackStore: async () => {
      await rm(storeDir, { recursive: true, force: true });
      await cp(join(dir, 'saved'), storeDir, { recursive: true });
    },
    stop: async () => {
      await kill('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function launch(config: string, port: number): Promise<ChildProcess> {
  const child = spawn(process.env.NATS_SERVER ?? 'nats-server', ['-c', config], {
    env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin` },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.once(
    'exit',
    atExit(() => child.kill('SIGKILL')),
  );
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    log = (log + chunk).slice(-4_000);
  });
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!(await accepts(port))) {
    const ended = failure !== undefined || child.exitCode !== null;
    if (ended || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`nats-server did not start:\n${log}`, { cause: failure });
    }
    await sleep(20);
  }
  return child;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const answer = (outcome: boolean) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.once('data', () => answer(true));
    socket.once('error', () => answer(false));
  });
}

/** A port that nobody listens on now; somebody may in a moment. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('No port for the test server');
  return address.port;
}
