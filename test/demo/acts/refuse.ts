import { grouped } from '../../../src/ctl/table.js';
import { readChains } from '../chains.js';
import { claimUntouched, same } from '../claims.js';
import { command } from '../commands.js';
import { portCount, rateLimit, Watch } from '../counts.js';
import { duringTraffic } from '../flows.js';
import type { Narrator } from '../narrator.js';
import { chainPayload, SERVICE_PORT } from '../payloads.js';
import type { KernelStage } from '../stage.js';

const RATE = 1000;

export async function refuseBroken(stage: KernelStage, tell: Narrator): Promise<void> {
  tell.act('A program that the kernel rejects');
  const before = await readChains(stage);
  const payload = chainPayload(stage.iface, { dropUnwanted: true, portDropVersion: '2.0', withBroken: true });
  const acknowledgement = await command(stage, tell, 'deploy', 'broken.json', payload);
  const { status, code, errors, undone } = acknowledgement;
  const verifierSpeaks = errors.some(({ detail }) => detail?.includes('invalid access to packet'));
  tell.claim(
    status === 'failed' && code === 'VERIFIER_REJECTED' && verifierSpeaks && undone === true,
    "the command has failed, and its acknowledgement quotes the kernel's verifier",
    acknowledgement,
  );
  await claimUntouched(stage, tell, before, 'the chains are unchanged');
  tell.lines(['']);
  const watch = new Watch([portCount(stage), rateLimit(stage)], tell);
  const { sent, counts } = await duringTraffic(stage, [{ port: SERVICE_PORT, rate: RATE }], watch, () => watch.rows(1));
  const [all = 0] = sent;
  tell.claim(same(counts, [all, all]), `${grouped(all)} more packets sent, and all of them have passed`, {
    sent,
    counts,
  });
}
