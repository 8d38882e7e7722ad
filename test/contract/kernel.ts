import assert from 'node:assert/strict';
import type { LibbpfDatapathOptions } from '../../src/datapath/libbpf/datapath.js';
import { makeGroup } from '../support/cgroup.js';
import { ComparedDatapath } from '../support/compared-datapath.js';
import { loader } from '../support/loader.js';
import { entriesBelow } from '../support/pins.js';
import { createTestbed, mountBpffs, type Testbed } from '../support/testbed.js';
import { run } from '../support/tool.js';
import { sendPackets } from '../support/traffic.js';
import { type Fixture, KEY_0 } from './samples.js';

/** The real kernel, with an interface and a bpffs that nothing else uses. */
export interface KernelFixture extends Fixture {
  readonly testbed: Testbed;
  /** Sends UDP packets from the other end to our interface. */
  receive(count: number, port: number): Promise<void>;
  /** Sends UDP packets out of our interface. */
  send(count: number, port: number): Promise<void>;
  /**
   * Waits until a one-entry array of u64 has reached a value, and a little longer to catch a value that is too high.
   */
  counted(mapPin: string, expected: number): Promise<void>;
}

export async function kernelFixture(
  options: Omit<LibbpfDatapathOptions, 'bpffs' | 'loader'> = {},
): Promise<KernelFixture> {
  const [testbed, bpffs] = await Promise.all([createTestbed(), mountBpffs()]);
  const datapath = new ComparedDatapath({ bpffs: bpffs.path, loader, ...options });
  const group = makeGroup();
  const RATE = 20_000;
  return {
    datapath,
    bpffs: bpffs.path,
    iface: testbed.iface,
    cgroup: group.path,
    testbed,
    async receive(count, port) {
      await sendPackets({ netns: testbed.netns, address: testbed.address, port, rate: RATE, count });
    },
    async send(count, port) {
      await sendPackets({ netns: '/proc/self/ns/net', address: testbed.peerAddress, port, rate: RATE, count });
    },
    async counted(mapPin, expected) {
      const patience = AbortSignal.timeout(5000);
      const value = async () => Number(Buffer.from((await datapath.readMap(mapPin, KEY_0)) ?? []).readBigUInt64LE());
      while ((await value()) < expected && !patience.aborted) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(await value(), expected, mapPin);
    },
    async close() {
      await datapath.close();
      const pinned = entriesBelow(bpffs.path);
      group.close();
      await testbed.close();
      await bpffs.unmount();
      assert.deepEqual(pinned, [], 'something is left in bpffs');
    },
  };
}

/** The JSON output of `bpftool`, `tc` or `ip`. */
export async function json<Shape>(command: string, ...args: string[]): Promise<Shape> {
  const { stdout } = await run(command, args);
  return JSON.parse(stdout) as Shape;
}

export async function command(name: string, ...args: string[]): Promise<string> {
  return (await run(name, args)).stdout;
}
