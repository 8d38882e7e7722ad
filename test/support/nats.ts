import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { atExit } from './last-resort.js';
import { PROJECT_ROOT } from './project.js';
import { isAbsence, missing, withSystemTools } from './tool.js';

/** A real broker with JetStream, with its own ports and stores: one nats-server, or a cluster of three. */
export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly storeDir: string;
  /** The servers: one, or three. The first is that of `url`. */
  readonly members: readonly [Member, ...Member[]];
  /** The server to which a client is connected. @param server as nats.js names it: address and port */
  memberAt(server: string): Member;
  /** Ends all processes and waits until they have ended. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again after a kill, on the same ports and stores. */
  restart(): Promise<void>;
  /** Copies the store aside; the broker must be down. */
  saveStore(): Promise<void>;
  /** Puts the saved store back; the broker must be down. */
  putBackStore(): Promise<void>;
  /** Ends the processes and removes their files. */
  stop(): Promise<void>;
}

/** One nats-server. */
export interface Member {
  /** As in the leader of a stream. */
  readonly name: string;
  readonly url: string;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again after a kill. Resolves when its JetStream answers. */
  restart(): Promise<void>;
}

/**
 * `installed` is the nats-server of the machine: Debian 12 has 2.9.10. `current` is what deploy/test-nats.sh has brought.
 * `cluster` are three of those.
 */
export type BrokerKind = 'installed' | 'current' | 'cluster';

export interface TestServerOptions {
  readonly storeDir?: string;
  readonly port?: number;
  /** More lines of the server's configuration, such as accounts and permissions. */
  readonly config?: string;
  /** Replaces the line of the configuration that enables JetStream; `''` for a broker without. */
  readonly jetstream?: string;
  /** Whether its clients have to speak first. */
  readonly isSilent?: boolean;
  /** By default the one that the run of the tests asks for. */
  readonly kind?: BrokerKind;
}

/** What this run of the tests asks for: run/brokers. */
export const BROKER_KIND = (process.env.L3AF_TEST_BROKER ?? 'installed') as BrokerKind;

const START_DEADLINE_MS = 30_000;
const CLUSTER_SIZE = 3;

export async function startNats(options: TestServerOptions = {}): Promise<TestServer> {
  const { kind = BROKER_KIND } = options;
  const dir = await mkdtemp(join(tmpdir(), 'l3af-nats-'));
  const storeDir = options.storeDir ?? join(dir, 'store');
  const members = await (kind === 'cluster' ? startCluster : startSingle)(dir, storeDir, options, kind);
  const [{ port }] = members;
  const kill = async (signal: NodeJS.Signals) => {
    await Promise.all(members.map((member) => member.kill(signal)));
  };
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    storeDir,
    members,
    memberAt: (at) => {
      const found = members.find(({ url }) => url.endsWith(`//${at}`));
      if (found === undefined) throw new Error(`no server of the test listens at ${at}`);
      return found;
    },
    kill,
    restart: async () => {
      await kill('SIGTERM');
      await Promise.all(members.map((member) => member.restart()));
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

interface RunningMember extends Member {
  readonly port: number;
}

type Members = readonly [RunningMember, ...RunningMember[]];

interface MemberSpec {
  readonly name: string;
  readonly dir: string;
  readonly port: number;
  readonly storeDir: string;
  /** More lines of its configuration. */
  readonly lines: readonly string[];
  /** Whether it can be used. */
  ready(): Promise<boolean>;
}

async function startSingle(
  dir: string,
  storeDir: string,
  options: TestServerOptions,
  kind: BrokerKind,
): Promise<Members> {
  const port = options.port ?? (await freePort());
  const spec = { name: 'single', dir, port, storeDir, lines: [], ready: () => accepts(port) };
  // One that waits for a TLS handshake says nothing by itself.
  return [await startMember(options.isSilent === true ? await monitored(spec) : spec, options, kind)];
}

/** Whether it is ready is asked at another port. */
async function monitored(spec: MemberSpec): Promise<MemberSpec> {
  const monitor = await freePort();
  return { ...spec, lines: [...spec.lines, `http: "127.0.0.1:${monitor}"`], ready: () => isHealthy(monitor) };
}

async function startCluster(
  dir: string,
  storeDir: string,
  options: TestServerOptions,
  kind: BrokerKind,
): Promise<Members> {
  const ports = await freePorts(3 * CLUSTER_SIZE);
  const routes = ports.splice(0, CLUSTER_SIZE);
  const urls = routes.map((port) => `nats-route://127.0.0.1:${port}`).join(', ');
  const specs = routes.map(async (route, index): Promise<MemberSpec> => {
    const name = `n${index + 1}`;
    const own = join(dir, name);
    await mkdir(own);
    const monitor = ports[index]!;
    return {
      name,
      dir: own,
      port: (index === 0 ? options.port : undefined) ?? ports[CLUSTER_SIZE + index]!,
      storeDir: join(storeDir, name),
      ready: () => isHealthy(monitor),
      lines: [
        `http: "127.0.0.1:${monitor}"`,
        `cluster { name: test, listen: "127.0.0.1:${route}", routes: [${urls}] }`,
      ],
    };
  });
  const all = await Promise.all(specs);
  const [first, ...others] = await Promise.all(all.map((spec) => startMember(spec, options, kind)));
  return [first!, ...others];
}

async function startMember(
  { name, dir, port, storeDir, lines, ready }: MemberSpec,
  { config = '', jetstream = 'jetstream { store_dir: STORE }' }: TestServerOptions,
  kind: BrokerKind,
): Promise<RunningMember> {
  const file = join(dir, 'server.conf');
  const content = [
    'host: "127.0.0.1"',
    `port: ${port}`,
    `server_name: ${name}`,
    jetstream.replace('STORE', JSON.stringify(storeDir)),
    ...lines,
    config,
  ];
  await writeFile(file, content.join('\n'));
  const start = () => launch(binaryOf(kind), file, ready);
  let child = await start();
  const kill = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  };
  const restart = async () => {
    await kill('SIGTERM');
    child = await start();
  };
  return { name, url: `nats://127.0.0.1:${port}`, port, kill, restart };
}

/** Path of a nats-server, or its name, to be found on the PATH. */
function binaryOf(kind: BrokerKind): string {
  return kind === 'installed' ? (process.env.NATS_SERVER ?? 'nats-server') : currentServer();
}

/** The nats-server that deploy/test-nats.sh has brought. */
export function currentServer(): string {
  const { NATS_SERVER_CURRENT: given } = process.env;
  if (given !== undefined && given !== '') return given;
  const tools = join(PROJECT_ROOT, 'dist', 'tools');
  const folder = readdirSync(tools).find((name) => /^nats-server-[\d.]+$/.test(name));
  if (folder === undefined) throw new Error('There is no current nats-server for the tests: sh deploy/test-nats.sh');
  return join(tools, folder, 'nats-server');
}

async function launch(binary: string, config: string, ready: () => Promise<boolean>): Promise<ChildProcess> {
  const child = spawn(binary, ['-c', config], { env: withSystemTools(), stdio: ['ignore', 'ignore', 'pipe'] });
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
    failure = isAbsence(error) ? missing('nats-server', error) : error;
  });
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!(await ready())) {
    const ended = failure !== undefined || child.exitCode !== null;
    if (ended || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw failure ?? new Error(`nats-server did not start:\n${log}`);
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

/** By its monitoring port: it listens for clients, its JetStream has a leader and what it stores is up to date. */
async function isHealthy(monitor: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${monitor}/healthz`);
    await response.text();
    return response.ok;
  } catch {
    return false;
  }
}

/** A port that is free now, and that no outgoing connection of the machine is given. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port!;
}

/**
 * So many different ones. Below the range that the kernel takes ports of outgoing connections from (ip(7),
 * ip_local_port_range): otherwise any connection could take one before it is used, or between a kill and a restart.
 */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  const ports: number[] = [];
  while (ports.length < count) {
    const port = LOWEST_PORT + randomInt(firstOutgoing() - LOWEST_PORT);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    held.push(server);
    ports.push(port);
  }
  await Promise.all(held.map((server) => once(server.close(), 'close')));
  return ports;
}

const LOWEST_PORT = 10_000;

function firstOutgoing(): number {
  return Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/)[0]);
}
