import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FleetClient } from '../../src/client/fleet-client.js';
import { AgentProcess } from '../support/agent-process.js';
import { PrivateBpffs } from '../support/bpftool.js';
import { buildRepository, standardPackages } from '../support/packages.js';
import { builtObject } from '../support/project.js';
import { createTestbed, type MountedBpffs, mountBpffs, type Testbed } from '../support/testbed.js';
import { HOST } from './payloads.js';

/** The environment of the demo: an agent with its own broker, packages, and a network if the kernel can be used. */
export interface Stage {
  /** A temporary folder with the payloads. */
  readonly folder: string;
  readonly agent: AgentProcess;
  readonly client: FleetClient;
  /** The interface whose chains are changed. */
  readonly iface: string;
  /** Undefined if the agent uses a datapath in memory. */
  readonly kernel: Kernel | undefined;
  /** Cleans up as much as possible. Rejects with all errors. */
  close(): Promise<void>;
}

export interface Kernel {
  readonly testbed: Testbed;
  /** Path of the agent's bpffs. */
  readonly bpffs: string;
  /** Another bpffs, for the demo's own pins. */
  readonly keepsakes: string;
}

/** A stage with real packets. */
export type KernelStage = Stage & { readonly kernel: Kernel };

export function hasKernel(stage: Stage): stage is KernelStage {
  return stage.kernel !== undefined;
}

const PLATFORM = 'demo';

/** @param withKernel false for an agent with a datapath in memory, which touches no interface */
export async function openStage(withKernel: boolean): Promise<Stage> {
  const undo: (() => Promise<unknown>)[] = [];
  const close = () => unwind(undo);
  const keep = <Thing>(thing: Thing, end: (thing: Thing) => Promise<unknown>): Thing => {
    undo.push(() => end(thing));
    return thing;
  };
  try {
    const folder = keep(await mkdtemp(join(tmpdir(), 'l3af-demo-')), (path) => rm(path, { recursive: true }));
    const kernel = withKernel ? await openKernel(keep) : undefined;
    const repository = join(folder, 'packages');
    await buildRepository(repository, standardPackages(PLATFORM));
    await mkdir(join(folder, 'state'));
    const agent = keep(
      new AgentProcess({
        hostName: HOST,
        stateDir: join(folder, 'state'),
        bpffs: kernel?.bpffs ?? join(folder, 'bpffs'),
        repoUrl: pathToFileURL(repository).href,
        platform: PLATFORM,
        datapath: withKernel ? 'libbpf' : 'memory',
      }),
      (started) => started.dispose(),
    );
    await agent.start();
    const client = keep(await FleetClient.connect({ servers: [agent.natsUrl] }), (open) => open.close());
    const iface = kernel?.testbed.iface ?? Object.keys(networkInterfaces())[0] ?? 'lo';
    return { folder, agent, client, iface, kernel, close };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

async function openKernel(keep: <Thing>(thing: Thing, end: (thing: Thing) => Promise<unknown>) => Thing) {
  const unmount = (mounted: MountedBpffs) => mounted.unmount();
  const testbed = keep(await createTestbed(), (open) => open.close());
  const bpffs = keep(await mountBpffs(), unmount);
  const keepsakes = keep(await mountBpffs(), unmount);
  return { testbed, bpffs: bpffs.path, keepsakes: keepsakes.path };
}

/** Runs the steps in reverse order. Continues after errors. */
async function unwind(undo: (() => Promise<unknown>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    await step().catch((error: unknown) => errors.push(error));
  }
  if (errors.length > 0) throw new AggregateError(errors, 'Not everything could be cleaned up');
}

/** What still exists but should be gone after the stage is closed. */
export function remnantsOf({ folder, iface, kernel }: Stage): string[] {
  if (kernel === undefined) return [folder].filter(existsSync);
  const { testbed, bpffs, keepsakes } = kernel;
  const places = [folder, testbed.netns, bpffs, keepsakes].filter(existsSync);
  return iface in networkInterfaces() ? [...places, `The interface ${iface}`] : places;
}

/** Why this machine cannot run the demo in the kernel, as text; undefined if it can. */
export async function kernelObstacle(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'only root can create network interfaces and load eBPF programs';
  try {
    const testbed = await createTestbed();
    await testbed.close();
  } catch (error) {
    return `no network namespace with a veth pair can be made here (${reasonOf(error)})`;
  }
  const bpffs = new PrivateBpffs();
  try {
    await bpffs.mount();
    await bpffs.load(builtObject('xdp_root'), 'xdp');
  } catch (error) {
    return `no eBPF program can be loaded here (${reasonOf(error)})`;
  } finally {
    await bpffs.unmount().catch(() => undefined);
  }
  return undefined;
}

function reasonOf(error: unknown): string {
  const { message } = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error);
  return message.trim().split('\n').at(-1) ?? '';
}
