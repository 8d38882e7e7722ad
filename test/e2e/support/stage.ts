import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { Verb } from '../../../src/domain/command.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { AgentProcess, type AgentProcessOptions } from '../../support/agent-process.js';
import type { Direction } from '../../support/directions.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { buildRepository, type PackageSpec, type PayloadProgram, standardPackages } from '../../support/packages.js';
import { pipesRead } from '../../support/pipes-read.js';
import { createTestbed, type MountedBpffs, mountBpffs, type Testbed } from '../../support/testbed.js';
import { sendPackets, Traffic } from '../../support/traffic.js';
import { type Chain, chainAt, idsOf, type KernelState, readKernel, surviving, without } from './kernel.js';

export const PLATFORM = 'bookworm';

/** The destination ports that markers count: see native/bpf/mark.h. */
export const PROBE_PORT = 9999;
export const DISCARD_PORT = 9;

/** The requested programs at the hooks of one interface. */
export interface Lists<Item> {
  readonly xdp_ingress?: readonly Item[] | null;
  readonly tc_ingress?: readonly Item[] | null;
  readonly tc_egress?: readonly Item[] | null;
  readonly probes?: readonly Item[] | null;
}

export interface StageOptions {
  readonly host: string;
  /** In addition to the standard ones. */
  readonly packages?: readonly PackageSpec[];
  readonly env?: AgentProcessOptions['env'];
}

const OUR_NETNS = '/proc/self/ns/net';
const SEND_RATE = 20_000;
const PATIENCE_MS = 30_000;

/**
 * Everything that one test file needs: an interface, a bpffs, a package repository, a NATS server, and the agent as a
 * separate process. {@link Stage.close} makes the agent remove everything and checks that nothing is left.
 */
export class Stage {
  readonly host: string;
  readonly bed: Testbed;
  readonly repository: string;
  readonly fleet: FleetClient;
  /** A plain client that uses only core NATS. */
  readonly nats: NatsConnection;
  readonly #server: TestServer;
  readonly #bpffs: MountedBpffs;
  readonly #dir: string;
  readonly #agentOptions: AgentProcessOptions;
  #agent: AgentProcess;
  readonly #traffic: Traffic[] = [];
  /** Kernel ids of every object that was ever seen in the bpffs. */
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

  /** Another agent process for the same host. Start it only after the first one has ended. */
  successor(flags: readonly string[]): AgentProcess {
    return new AgentProcess({ ...this.#agentOptions, flags });
  }

  /** Stops the agent in an orderly way and starts another one. @param env settings that differ from the stage's */
  async restart(env: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.#agent.dispose();
    this.#agent = new AgentProcess({ ...this.#agentOptions, env: { ...this.#agentOptions.env, ...env } });
    await this.#agent.start();
  }

  /** A payload with one entry, for the stage's interface unless another one is named. */
  payload<Item>(lists: Lists<Item>, iface = this.bed.iface) {
    return [{ host_name: this.host, iface, ipv4_address: this.bed.address, bpf_programs: lists }];
  }

  async send(verb: Verb, payload: unknown): Promise<Acknowledgement> {
    const { acknowledgement } = await this.fleet.send(verb, this.host, payload);
    await pipesRead();
    return acknowledgement;
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

  /** The agent's objects in the kernel now. {@link close} checks that every id seen here is gone. */
  async kernel(): Promise<KernelState> {
    const state = await readKernel(this.bpffs);
    const ids = idsOf(state);
    for (const kind of ['prog', 'map', 'link'] as const) for (const id of ids[kind]) this.#seen[kind].add(id);
    return state;
  }

  async chain(direction: Direction = 'xdpingress', iface = this.bed.iface): Promise<Chain | undefined> {
    return chainAt(await this.kernel(), { iface, direction });
  }

  /** The public path of a map of an XDP program, as in l3afd. */
  xdpMap(program: string, version: string, map: string): string {
    return join(this.bpffs, this.bed.iface, program, version.replaceAll('.', '_'), map);
  }

  /** The public path of a map of a TC program, as in l3afd. */
  tcMap(program: string, version: string, map: string): string {
    return join(this.bpffs, 'tc', 'globals', this.bed.iface, program, version.replaceAll('.', '_'), map);
  }

  /** Sends UDP packets from the other end to our interface. */
  async receive(count: number, port: number): Promise<void> {
    const { netns, address } = this.bed;
    await sendPackets({ netns, address, port, rate: SEND_RATE, count });
  }

  /**
   * Sends UDP packets until the traffic is stopped or the stage is closed; for `egress`, out of our interface.
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

  /** Objects that were seen earlier, are not in `state`, and still exist in the kernel. */
  async leaked(state: KernelState): Promise<string[]> {
    const past = without(this.#seen, idsOf(state));
    // The kernel frees maps and links later, in work queues.
    let left = surviving(past);
    for (const patience = AbortSignal.timeout(PATIENCE_MS); left.length > 0 && !patience.aborted; ) {
      await sleep(50);
      left = surviving(past);
    }
    return left;
  }

  /** Makes the agent remove everything, ends it, removes the stage, and checks that nothing of either is left. */
  async close(): Promise<void> {
    const { pid } = this.agent;
    // If a test has stopped the traffic already, this throws.
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

/** The BPF objects that a process has open, as `anon_inode:bpf-map`. */
async function bpfDescriptors(pid: number): Promise<string[]> {
  const dir = `/proc/${pid}/fd`;
  const targets = (await readdir(dir)).map((fd) => readlink(join(dir, fd)).catch(() => ''));
  return (await Promise.all(targets)).filter((target) => target.startsWith('anon_inode:bpf'));
}

/**
 * Reads a value until it is as expected. A failed read is repeated too, since its object may be removed meanwhile.
 *
 * @throws Error with the last value or the last read error, after a time-out
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
