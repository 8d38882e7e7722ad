import { setTimeout as sleep } from 'node:timers/promises';
import { Traffic } from '../support/traffic.js';
import type { Watch } from './counts.js';
import type { KernelStage } from './stage.js';

/** Packets to one port of our end of the pair. */
export interface Flow {
  readonly port: number;
  /** Packets per second. */
  readonly rate: number;
}

/** Within this time a packet that was sent has passed every chain. */
const SETTLING_MS = 100;

/**
 * Counts from 0 on while packets flow and something else is done.
 *
 * @returns packets sent of each flow, and what was counted of them all
 * @throws Error when the pair itself has lost packets, since the counts then prove nothing
 */
export async function duringTraffic(
  { kernel: { testbed } }: KernelStage,
  flows: readonly Flow[],
  watch: Watch,
  meanwhile: () => Promise<void>,
): Promise<{ sent: readonly number[]; counts: readonly (number | undefined)[] }> {
  const lostBefore = await testbed.lost();
  await watch.start();
  const traffic = flows.map((flow) => new Traffic({ ...flow, netns: testbed.netns, address: testbed.address }));
  await Promise.all(traffic.map((sender) => sender.start()));
  await meanwhile();
  const sent = await Promise.all(traffic.map((sender) => sender.stop()));
  await sleep(SETTLING_MS);
  const lost = (await testbed.lost()) - lostBefore;
  if (lost > 0)
    throw new Error(`The veth pair itself has lost ${lost} packets, this machine is too busy; run it again`);
  return { sent, counts: await watch.counts() };
}
