import { sendPackets } from '../../support/traffic.js';
import type { Narrator } from '../narrator.js';
import { EXPEDITED, SERVICE_PORT, VOICE_PORT } from '../payloads.js';
import type { KernelStage } from '../stage.js';

const COUNT = 300;
const RATE = 1000;

export async function markOutgoing(stage: KernelStage, tell: Narrator): Promise<void> {
  tell.act('The other direction: outgoing packets are marked');
  tell.say('dscp-mark sets the DSCP of packets by port. A receiver at the other end checks their headers:', '');
  const voice = await sendOut(stage, VOICE_PORT);
  tell.claim(
    voice.received.byTos[EXPEDITED << 2] === voice.sent,
    `${voice.sent} packets to :${VOICE_PORT} (voice), ${voice.received.total} received, all with DSCP ${EXPEDITED}, expedited forwarding`,
    voice.received,
  );
  const other = await sendOut(stage, SERVICE_PORT);
  tell.claim(
    other.received.byTos[0] === other.sent,
    `${other.sent} packets to :${SERVICE_PORT}, ${other.received.total} received, all unchanged`,
    other.received,
  );
}

async function sendOut({ kernel: { testbed } }: KernelStage, port: number) {
  const receiver = await testbed.listen(port);
  const ownNetns = `/proc/${process.pid}/ns/net`;
  const sent = await sendPackets({ netns: ownNetns, address: testbed.peerAddress, port, rate: RATE, count: COUNT });
  return { sent, received: await receiver.close() };
}
