import { grouped } from '../../../src/ctl/table.js';
import { readChains } from '../chains.js';
import { claimUntouched, same } from '../claims.js';
import { command } from '../commands.js';
import { portCountOf, portDrop, rateLimit, tcCount, Watch } from '../counts.js';
import { duringTraffic } from '../flows.js';
import type { Narrator } from '../narrator.js';
import { chainPayload, SERVICE_PORT, UNWANTED_PORT } from '../payloads.js';
import type { KernelStage } from '../stage.js';

const RATE = 1000;

export async function addRule(stage: KernelStage, tell: Narrator): Promise<void> {
  tell.act(`Real packets, and a rule against port ${UNWANTED_PORT}`);
  tell.say('UDP packets are sent to two ports from the other end of the veth pair. The programs count them:', '');
  const free = await sendToBoth(stage, tell);
  const all = free.service + free.unwanted;
  tell.claim(
    same(free.counts, [free.service, free.unwanted, 0, all, all]),
    `${grouped(all)} packets sent, none dropped, and every program has seen all of them`,
    free,
  );

  tell.say('', 'The rule is an entry in the map in which port-drop looks up ports (map_args in the payload):', '');
  const before = await readChains(stage);
  const payload = chainPayload(stage.iface, { dropUnwanted: true });
  const acknowledgement = await command(stage, tell, 'deploy', 'rule.json', payload);
  tell.claim(acknowledgement.status === 'applied', 'the rule is applied', acknowledgement);
  await claimUntouched(stage, tell, before, 'no program was reloaded for it');

  tell.lines(['']);
  const ruled = await sendToBoth(stage, tell);
  tell.claim(
    same(ruled.counts, [ruled.service, ruled.unwanted, ruled.unwanted, ruled.service, ruled.service]),
    `all ${grouped(ruled.unwanted)} packets to :${UNWANTED_PORT} are dropped, all ${grouped(ruled.service)} to :${SERVICE_PORT} pass`,
    ruled,
  );
}

async function sendToBoth(stage: KernelStage, tell: Narrator) {
  const counters = [
    portCountOf(stage, SERVICE_PORT),
    portCountOf(stage, UNWANTED_PORT),
    portDrop(stage, '1.0', 'dropped_count'),
    rateLimit(stage),
    tcCount(stage),
  ];
  const watch = new Watch(counters, tell);
  const flows = [SERVICE_PORT, UNWANTED_PORT].map((port) => ({ port, rate: RATE }));
  const { sent, counts } = await duringTraffic(stage, flows, watch, () => watch.rows(3));
  const [service = 0, unwanted = 0] = sent;
  return { service, unwanted, counts };
}
