import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { FleetClient } from '../../src/client/fleet-client.js';
import type { Verb } from '../../src/domain/command.js';
import type { Direction } from '../../src/domain/hook.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { AgentProcess, type AgentProcessOptions } from '../support/agent-process.js';
import { startNats, type TestServer } from '../support/nats.js';
import { buildRepository, type PackageSpec, type PayloadProgram, standardPackages } from '../support/packages.js';
import { createTestbed, type MountedBpffs, mountBpffs, type Testbed } from '../support/testbed.js';
import { sendPackets, Traffic } from '../support/traffic.js';
import { type Chain, chainAt, idsOf, type KernelState, readKernel, surviving, without } from './support-kernel.js';

export const PLATFORM = 'bookworm';

/** The destination ports that markers know: see native/bpf/mark.h. */
export const PROBE_PORT = 9999;
export const DISCARD_PORT = 9;

/** The programs asked for at the hooks of one interface. */
export interface Lists<Item> {
  readonly xdp_ingress?: readonly Item[] | null;
  readonly tc_ingress?: readonly Item[] | null;
  readonly tc_egress?: readonly Item[] | null;
  readonly probes?: readonly Item[] | null;
}

export interface StageOptions {
  readonly host: string;
  /** Beside the standard ones. */
  readonly packages?: readonly PackageSpec[];
  readonly env?: AgentProcessOptions['env'];
}

const OUR_NETNS = '/proc/self/ns/net';
const SEND_RATE = 20_000;
const PATIENCE_MS = 30_000;

/**
 * Everything that one test file plays on: an interface, a bpffs, a package repository, a NATS server and the agent as a process of
 * its own. {@link Stage.close} has the agent take everything down and proves that nothing is left.
 */
export class Stage {
  readonly host: string;
  readonly bed: Testbed;
  readonly repository: string;
  readonly fleet: FleetClient;
  /** For stock clients: nothing but core NATS. */
  readonly nats: NatsConnection;
  readonly #server: TestServer;
  readonly #bpffs: MountedBpffs;
  readonly #dir: string;
  readonly #agentOptions: AgentProcessOptions;
  #agent: AgentProcess;
  readonly #traffic: Traffic[] = [];
  /** Kernel ids of everything that was ever seen in the bpffs. */
  readonly #seen = { prog: new Set<number>(), map: new Set<number>(), link: new Set<number>() };

  private constructor(parts: Parts) {
    this.host = parts.agentOptions.hostName;
    this.bed = parts.bed;
    this.repository = parts.repository;
    this.#agent = new AgentProcess(parts.agentOptions);
    this.fleet = parts.fleet;
    this.nats = parts.nats;
    this.#server = parts.server;
    this.#bpffs = parts.bpffs;
    this.#dir = parts.dir;
    this.#agentOptions = parts.agentOptions;
  }

  /** Sets everything up and starts the agent. */
  static async open({ host, packages = [], env }: StageOptions): Promise<Stage> {
    const dir = await mkdtemp(join(tmpdir(), 'l3af-stage-'));
    const repository = join(dir, 'repository');
    const [bed, bpffs, server] = await Promise.all([
      createTestbed(),
      mountBpffs(),
      startNats(),
      buildRepository(repository, [...standardPackages(PLATFORM), ...packages]),
    ]);
    const [fleet, nats] = await Promise.all([
      FleetClient.connect({ servers: [server.url] }),
      connect({ servers: server.url }),
    ]);
    const agentOptions = {
      hostName: host,
      stateDir: join(dir, 'state'),
      bpffs: bpffs.path,
      repoUrl: `file://${repository}`,
      natsUrl: server.url,
      platform: PLATFORM,
      ...(env !== undefined && { env }),
    };
    const stage = new Stage({ dir, repository, bed, bpffs, server, fleet, nats, agentOptions });
    try {
      await stage.agent.start();
    } catch (error) {
      await stage.close();
      throw error;
    }
    return stage;
  }

  get agent(): AgentProcess {
    return this.#agent;
  }

  get stateDir(): string {
    return this.#agentOptions.stateDir;
  }

  get bpffs(): string {
    return this.#bpffs.path;
  }

  /** Another process for the same host, to be started when the first one is down. */
  successor(flags: readonly string[]): AgentProcess {
    return new AgentProcess({ ...this.#agentOptions, flags });
  }

  /** Has the agent stop in order and another one start in its place. @param env settings that differ from the stage's */
  async restart(env: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.#agent.dispose();
    this.#agent = new AgentProcess({ ...this.#agentOptions, env: { ...this.#agentOptions.env, ...env } });
    await this.#agent.start();
  }

  /** A payload of one entry for each interface; the stage's own unless named. */
  payload<Item>(lists: Lists<Item>, iface = this.bed.iface) {
    return [{ host_name: this.host, iface, ipv4_address: this.bed.address, bpf_programs: lists }];
  }

  async send(verb: Verb, payload: unknown): Promise<Acknowledgement> {
    return (await this.fleet.send(verb, this.host, payload)).acknowledgement;
  }

  deploy(lists: Lists<PayloadProgram>): Promise<Acknowledgement> {
    return this.send('deploy', this.payload(lists));
  }

  add(lists: Lists<PayloadProgram>): Promise<Acknowledgement> {
    return this.send('add', this.payload(lists));
  }

  delete(lists: Lists<string>): Promise<Acknowledgement> {
    return this.send('delete', this.payload(lists));
  }

  /** What the kernel has of the agent now. Ids that were seen once must be gone at the end. */
  async kernel(): Promise<KernelState> {
    const state = await readKernel(this.bpffs);
    const ids = idsOf(state);
    for (const kind of ['prog', 'map', 'link'] as const) for (const id of ids[kind]) this.#seen[kind].add(id);
    return state;
  }

  async chain(direction: Direction = 'xdpingress', iface = this.bed.iface): Promise<Chain | undefined> {
    return chainAt(await this.kernel(), { iface, direction });
  }

  /** Path of a map of an XDP program at l3afd's place. */
  xdpMap(program: string, version: string, map: string): string {
    return join(this.bpffs, this.bed.iface, program, version.replaceAll('.', '_'), map);
  }

  /** Path of a map of a TC program at l3afd's place. */
  tcMap(program: string, version: string, map: string): string {
    return join(this.bpffs, 'tc', 'globals', this.bed.iface, program, version.replaceAll('.', '_'), map);
  }

  /** Sends UDP packets from the other end to our interface. */
  async receive(count: number, port: number): Promise<void> {
    const { netns, address } = this.bed;
    await sendPackets({ netns, address, port, rate: SEND_RATE, count });
  }

  /**
   * The same without end, until it is stopped or the stage is closed; out of our interface for `egress`.
   *
   * @param rate packets per second
   */
  async startTraffic(port: number, rate: number, direction: Direction = 'xdpingress'): Promise<Traffic> {
    const { netns, address, peerAddress } = this.bed;
    const ends = direction === 'egress' ? { netns: OUR_NETNS, address: peerAddress } : { netns, address };
    const traffic = new Traffic({ ...ends, port, rate });
    await traffic.start();
    this.#traffic.push(traffic);
    return traffic;
  }

  /** Sends UDP packets out of our interface. */
  async transmit(count: number, port: number): Promise<void> {
    const { peerAddress: address } = this.bed;
    await sendPackets({ netns: OUR_NETNS, address, port, rate: SEND_RATE, count });
  }

  /** Of all objects that were ever seen, those that the kernel has beyond the ones in `state`. */
  async leaked(state: KernelState): Promise<string[]> {
    const past = without(this.#seen, idsOf(state));
    // The kernel frees maps and links by work queues.
    let left = surviving(past);
    for (const patience = AbortSignal.timeout(PATIENCE_MS); left.length > 0 && !patience.aborted; ) {
      await sleep(50);
      left = surviving(past);
    }
    return left;
  }

  /** Has the agent take every chain down, ends it, removes the stage, and proves that nothing of either is left. */
  async close(): Promise<void> {
    const { pid } = this.agent;
    // What has been stopped already says so by an error.
    for (const traffic of this.#traffic) await traffic.stop().catch(() => undefined);
    try {
      if (pid !== undefined) await this.#clear(pid);
    } finally {
      await this.agent.dispose();
      await Promise.all([this.fleet.close(), this.nats.close()]);
      await this.#server.stop();
      await this.bed.close();
      await this.#bpffs.unmount();
      await rm(this.#dir, { recursive: true });
    }
    for (const path of [this.bed.netns, `/sys/class/net/${this.bed.iface}`, this.bpffs, `/proc/${pid}`]) {
      assert.ok(!existsSync(path), `${path} is left`);
    }
  }

  async #clear(pid: number): Promise<void> {
    await this.kernel();
    const { status } = await this.send('deploy', []);
    assert.match(status, /^(applied|unchanged)$/);
    const state = await this.kernel();
    assert.deepEqual(state.entries, [], 'something is pinned after everything was taken down');
    assert.deepEqual(await this.leaked(state), [], 'something is left in the kernel');
    assert.deepEqual(await bpfDescriptors(pid), [], 'the agent has descriptors open');
  }
}

interface Parts {
  readonly dir: string;
  readonly repository: string;
  readonly bed: Testbed;
  readonly bpffs: MountedBpffs;
  readonly server: TestServer;
  readonly fleet: FleetClient;
  readonly nats: NatsConnection;
  readonly agentOptions: AgentProcessOptions;
}

/** What a process has open of the kernel's BPF objects: `anon_inode:bpf-map`. */
async function bpfDescriptors(pid: number): Promise<string[]> {
  const dir = `/proc/${pid}/fd`;
  const targets = (await readdir(dir)).map((fd) => readlink(join(dir, fd)).catch(() => ''));
  return (await Promise.all(targets)).filter((target) => target.startsWith('anon_inode:bpf'));
}

/**
 * Asks again and again until it is so. A question that fails is asked again too: what is looked at may go meanwhile.
 *
 * @throws Error with what was read last, or why it could not be, when it is not so in good time
 */
export async function eventually<T>(read: () => Promise<T>, isSo: (value: T) => boolean, what: string): Promise<T> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  for (;;) {
    const answer = await read().then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    if ('value' in answer && isSo(answer.value)) return answer.value;
    if (patience.aborted) {
      assert.fail(`${what}; it is ${'value' in answer ? JSON.stringify(answer.value) : String(answer.error)}`);
    }
    await sleep(20);
  }
}
