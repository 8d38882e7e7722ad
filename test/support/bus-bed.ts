import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { AgentProcess, type AgentProcessOptions } from './agent-process.js';
import { Controller } from './controller.js';
import { startNats, type TestServer } from './nats.js';
import { buildRepository, type PayloadProgram, standardPackages } from './packages.js';

/*
 * A real broker and real agent processes, on the in-memory datapath: what the bus does to commands does not depend on the kernel.
 */

export const HOST = 'web1';

/** An interface that every machine has. To the in-memory datapath it is no more than a name: nothing is attached to it. */
export const IFACE = 'lo';

export const PLATFORM = 'test';

export interface BusBed {
  readonly server: TestServer;
  readonly controller: Controller;
  /** Of the agent made by {@link agent}, unless it is given another. */
  readonly stateDir: string;
  readonly repoUrl: string;
  /** A folder of the test's own. */
  readonly dir: string;
  /** An agent that is not started yet; its log tells every step. It is ended with the test. */
  agent(options?: Partial<AgentProcessOptions>): AgentProcess;
  /** Has something done when the test is over, last things first. */
  atEnd(cleanup: () => unknown): void;
}

export async function givenBusBed(t: TestContext): Promise<BusBed> {
  const cleanups: (() => unknown)[] = [];
  const atEnd = (cleanup: () => unknown) => void cleanups.push(cleanup);
  t.after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  const dir = await mkdtemp(join(tmpdir(), 'l3af-bus-'));
  atEnd(() => rm(dir, { recursive: true, force: true }));
  const repository = join(dir, 'repository');
  await buildRepository(repository, packages);
  const server = await startNats();
  atEnd(() => server.stop());
  const controller = await Controller.connect(server.url, HOST);
  atEnd(() => controller.close());

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

/** What the agent's log says that it did: every step of every plan, with the command or task that it was done for. */
export function stepsOf(agent: AgentProcess): { op: string; phase: string; step: string }[] {
  return agent
    .logs()
    .filter(({ msg }) => msg === 'step')
    .map(({ op, phase, step }) => ({ op: String(op), phase: String(phase), step: String(step) }));
}
