import { setTimeout as sleep } from 'node:timers/promises';
import { Traffic } from '../support/traffic.js';
import type { Watch } from './counts.js';
import type { KernelStage } from './stage.js';

/** Packets to one port of our end of the veth pair. */
export interface Flow {
  readonly port: number;
  /** Packets per second. */
  readonly rate: number;
}

/** Time within which a sent packet has passed all chains. */
const SETTLING_MS = 100;

/**
 * Sends packets and counts them, starting at 0, while `meanwhile` runs.
 *
 * @returns how many packets each flow has sent, and the counts
 * @throws Error if the veth pair has lost packets, since the counts prove nothing then
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
    throw new Error(
      `The veth pair itself has lost ${lost} packets because this machine is too busy; run the demo again`,
    );
  return { sent, counts: await watch.counts() };
}
