import { release } from 'node:os';
import { drawFacts } from '../drawing.js';
import type { Narrator } from '../narrator.js';
import { HOST } from '../payloads.js';
import type { Stage } from '../stage.js';

export async function introduce(stage: Stage, tell: Narrator): Promise<void> {
  tell.act('The setup');
  const { agent, client, kernel, iface } = stage;
  const { version, datapath, ready } = await client.status(HOST);
  const network: [string, string] =
    kernel === undefined
      ? ['interface', `${iface}, only as a name: nothing is attached to it`]
      : [
          'network',
          `${iface} ${kernel.testbed.address} ══ veth pair ══ ${kernel.testbed.peerAddress} in ${kernel.testbed.netns}`,
        ];
  const facts: [string, string][] = [
    ['agent', `l3af-agent ${version}, process ${agent.pid}, datapath ${datapath}, kernel ${release()}`],
    ['broker', `nats://${new URL(agent.natsUrl).host}, a nats-server with JetStream, started by the agent`],
    ['packages', 'built from native/bpf, in a folder'],
    network,
  ];
  tell.lines([...drawFacts(facts, tell.style), '']);
  tell.command(`export L3AF_NATS_URL=$(cat ${agent.urlFile})`);
  tell.claim(ready, `the agent accepts commands for ${HOST}`);
}
