import { relative } from 'node:path';
import { L3AFCTL } from '../support/project.js';
import { writePayload } from './commands.js';
import type { Narrator } from './narrator.js';
import { HOST, namesPayload, SERVICE_PORT, UNWANTED_PORT } from './payloads.js';
import { hasKernel, type KernelStage, type Stage } from './stage.js';

/** Prints commands to try while the chains are attached. */
export async function offer(stage: Stage, tell: Narrator): Promise<void> {
  const { agent, folder, iface } = stage;
  await writePayload(stage, 'names.json', namesPayload(iface));
  tell.act('Try it yourself');
  tell.say('In another terminal:', '');
  tell.command(`export L3AF_NATS_URL=$(cat ${agent.urlFile})`);
  tell.command(`alias l3afctl="node ${relative(process.cwd(), L3AFCTL)}"`);
  tell.say('', 'Query the agent:', '');
  tell.command('l3afctl status');
  tell.command(`l3afctl programs --host ${HOST}`);
  tell.command(`l3afctl acks --host ${HOST}`);
  if (hasKernel(stage)) offerKernel(stage, tell);
  tell.say('', 'Change something, then remove everything:', '');
  tell.command(`l3afctl deploy -f ${folder}/chain.json --wait`);
  tell.command(`l3afctl delete -f ${folder}/names.json --wait`);
  tell.say('', 'The same without l3afctl:', '');
  tell.command("nats -s $L3AF_NATS_URL sub 'l3af.>'");
  tell.command(`nats -s $L3AF_NATS_URL request l3af.req.${HOST}.programs '{}'`);
  tell.command(`nats -s $L3AF_NATS_URL pub l3af.cmd.${HOST}.deploy "$(cat ${folder}/chain.json)"`);
  tell.say('', 'Kill the agent; the programs stay attached:', '');
  tell.command(`kill -9 ${agent.pid}`);
  tell.say('', tell.style('bold', 'Ctrl-C in this terminal cleans everything up.'));
}

function offerKernel({ iface, kernel: { testbed, bpffs } }: KernelStage, tell: Narrator): void {
  tell.say('', 'Send packets, and inspect the kernel:', '');
  for (const port of [SERVICE_PORT, UNWANTED_PORT]) {
    tell.command(`nsenter --net=${testbed.netns} bash -c 'echo hello >/dev/udp/${testbed.address}/${port}'`);
  }
  tell.command(`bpftool map dump pinned ${bpffs}/${iface}/port-count/1_0/port_packets`);
  tell.command(`ip link show ${iface}; bpftool link show; find ${bpffs} -type f`);
}
