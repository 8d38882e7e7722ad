import { grouped } from '../../../src/ctl/table.js';
import { readChains } from '../chains.js';
import { claimSlots, claimUntouched } from '../claims.js';
import { portCount, portDrop, rateLimit, tcCount, Watch } from '../counts.js';
import { duringTraffic } from '../flows.js';
import type { Narrator } from '../narrator.js';
import { SERVICE_PORT } from '../payloads.js';
import type { KernelStage } from '../stage.js';

const RATE = 2000;

export async function killAgent(stage: KernelStage, tell: Narrator): Promise<void> {
  tell.act('The agent is killed, and the chains keep running');
  const { agent } = stage;
  const before = await readChains(stage);
  const counters = [portCount(stage), portDrop(stage, '2.0', 'seen_count'), rateLimit(stage), tcCount(stage)];
  const watch = new Watch(counters, tell);
  const { sent, counts } = await duringTraffic(stage, [{ port: SERVICE_PORT, rate: RATE }], watch, async () => {
    await watch.rows(1);
    tell.command(`kill -9 ${agent.pid}`);
    await agent.kill('SIGKILL');
    await watch.rows(3);
    tell.command('l3af-agent run &');
    const began = performance.now();
    await agent.start();
    tell.say(`process ${agent.pid}, ready after ${Math.round(performance.now() - began)} ms`);
    await watch.rows(1);
  });
  const [all = 0] = sent;
  tell.lines(['']);
  tell.claim(
    counts.every((count) => count === all),
    `${grouped(all)} packets sent before, during and after, and every program has seen all of them`,
    { sent, counts },
  );
  await claimUntouched(stage, tell, before, 'the agent has adopted the running programs');
  await claimSlots(tell, await readChains(stage));
}
