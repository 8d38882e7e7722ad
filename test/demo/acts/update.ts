import { grouped } from '../../../src/ctl/table.js';
import { readChains } from '../chains.js';
import { claimOnlyMiddleReplaced } from '../claims.js';
import { command } from '../commands.js';
import { kept, portCount, portDrop, rateLimit, Watch } from '../counts.js';
import { duringTraffic } from '../flows.js';
import type { Narrator } from '../narrator.js';
import { chainPayload, SERVICE_PORT } from '../payloads.js';
import type { KernelStage, Stage } from '../stage.js';

const RATE = 5000;

export async function updateUnderTraffic(stage: KernelStage, tell: Narrator): Promise<void> {
  tell.act('The middle program is updated under traffic: 1.0 → 2.0');
  const counters = [
    portCount(stage),
    await kept(stage, portDrop(stage, '1.0', 'seen_count')),
    portDrop(stage, '2.0', 'seen_count'),
    rateLimit(stage),
  ];
  tell.say(
    'To count what 1.0 sees up to its last packet, the demo adds a second pin to its counter. The agent verifies each unload,',
    'and will report this pin as the reason why one map stays in the kernel.',
  );
  const before = await readChains(stage);
  const watch = new Watch(counters, tell);
  const { sent, counts } = await duringTraffic(stage, [{ port: SERVICE_PORT, rate: RATE }], watch, async () => {
    await watch.rows(2);
    tell.lines(['']);
    await update(stage, tell, true);
    await watch.rows(2);
  });
  const [all = 0] = sent;
  const [first = 0, old = 0, young = 0, last = 0] = counts;
  tell.lines(['']);
  tell.claim(
    first === all && last === all && old > 0 && young > 0 && old + young === all,
    `${grouped(all)} sent = ${grouped(first)} seen by the first = ${grouped(old)} by 1.0 + ${grouped(young)} by 2.0 ` +
      `= ${grouped(last)} seen by the last`,
    { sent, counts },
  );
  tell.lines(['']);
  await claimOnlyMiddleReplaced(stage, tell, before);
}

export async function updateInMemory(stage: Stage, tell: Narrator): Promise<void> {
  tell.act('The middle program is updated: 1.0 → 2.0');
  const before = await readChains(stage);
  await update(stage, tell, false);
  tell.lines(['']);
  await claimOnlyMiddleReplaced(stage, tell, before);
}

async function update(stage: Stage, tell: Narrator, dropUnwanted: boolean): Promise<void> {
  const payload = chainPayload(stage.iface, { dropUnwanted, portDropVersion: '2.0' });
  const acknowledgement = await command(stage, tell, 'deploy', 'update.json', payload);
  tell.claim(acknowledgement.status === 'applied', 'the update is applied', acknowledgement);
}
