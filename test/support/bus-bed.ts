import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { AgentProcess, type AgentProcessOptions } from './agent-process.js';
import { Controller } from './controller.js';
import { startNats, type TestServer, type TestServerOptions } from './nats.js';
import { buildRepository, type PayloadProgram, standardPackages } from './packages.js';
import { createStreams } from './streams.js';

/*
 * A real broker and real agent processes, on the in-memory datapath: what the bus does with commands does not depend on
 * the kernel.
 */

export const HOST = 'web1';

/** An interface that every machine has. For the in-memory datapath it is just a name: nothing is attached to it. */
export const IFACE = 'lo';

export const PLATFORM = 'test';

export interface BusBed {
  readonly server: TestServer;
  readonly controller: Controller;
  /** State directory of the agent that {@link agent} makes, unless it is given another. */
  readonly stateDir: string;
  readonly repoUrl: string;
  /** A folder for this test. */
  readonly dir: string;
  /** An agent that is not started yet; its log shows every step. It is ended with the test. */
  agent(options?: Partial<AgentProcessOptions>): AgentProcess;
  /** Registers a cleanup for the end of the test; the last one runs first. */
  atEnd(cleanup: () => unknown): void;
}

export interface BusBedOptions extends TestServerOptions {
  /** On how many servers the streams are; by default on all. */
  readonly replicas?: number;
}

export async function givenBusBed(t: TestContext, options: BusBedOptions = {}): Promise<BusBed> {
  const cleanups: (() => unknown)[] = [];
  const atEnd = (cleanup: () => unknown) => void cleanups.push(cleanup);
  t.after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  const dir = await mkdtemp(join(tmpdir(), 'l3af-bus-'));
  atEnd(() => rm(dir, { recursive: true, force: true }));
  const repository = join(dir, 'repository');
  await buildRepository(repository, packages);
  const server = await startNats(options);
  atEnd(() => server.stop());
  const controller = await Controller.connect(server.url, HOST);
  atEnd(() => controller.close());
  await createStreams(controller.bus, controller.subjects, options.replicas ?? server.members.length);

  const stateDir = join(dir, 'state');
  const repoUrl = pathToFileURL(repository).href;
  const agent = (options: Partial<AgentProcessOptions> = {}) => {
    const made = new AgentProcess({
      hostName: HOST,
      stateDir,
      bpffs: join(dir, 'bpffs'),
      repoUrl,
      natsUrl: server.url,
      platform: PLATFORM,
      datapath: 'memory',
      ...options,
      env: { L3AF_LOG_LEVEL: 'debug', ...options.env },
    });
    atEnd(() => made.dispose());
    return made;
  };
  return { server, controller, stateDir, repoUrl, dir, agent, atEnd };
}

const USED = new Set(['port-count', 'port-drop', 'rate-limit', 'tc-count']);
const packages = standardPackages(PLATFORM).filter(({ name }) => USED.has(name));

/** The payload of a deploy or add: these programs on the interface's XDP chain. */
export function onXdp(...programs: readonly PayloadProgram[]): unknown {
  return [{ host_name: HOST, iface: IFACE, ipv4_address: '', bpf_programs: { xdp_ingress: programs } }];
}

/** The payload of a delete. */
export function namesOnXdp(...names: readonly string[]): unknown {
  return [{ host_name: HOST, iface: IFACE, bpf_programs: { xdp_ingress: names } }];
}

/** What the agent did, according to its log: every step of every plan, with its command or task. */
export function stepsOf(agent: AgentProcess): { op: string; phase: string; step: string }[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === 'step')
    .map(({ op, phase, step }) => ({ op: String(op), phase: String(phase), step: String(step) }));
}
