import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { payloadProgram } from '../support/packages.js';
import { numberIn, programIdsOf } from './support-kernel.js';
import { Stage } from './support-stage.js';

/*
 * An interface that goes takes its chain out of what runs, but not out of what is desired. The regular look comes once an hour here, so
 * that what brings the chain back is the kernel's word that the interface is there again.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'interfaces', env: { L3AF_RECONCILE_INTERVAL: '1h' } });
});
after(() => stage.close());

test('a chain is back as soon as its interface is, with the programs and counters that it had', async () => {
  const events = stage.nats.subscribe('l3af.evt.interfaces.drift-repaired')[Symbol.asyncIterator]();
  await stage.deploy({
    xdp_ingress: [payloadProgram('port-count', { seq_id: 1 }), payloadProgram('port-drop', { seq_id: 2 })],
    tc_ingress: [payloadProgram('tc-count', { seq_id: 1 })],
  });
  await stage.receive(100, 8080);
  const chains = async () => [await stage.chain('xdpingress'), await stage.chain('ingress')].map(programIdsOf);
  const standing = await chains();

  await stage.bed.recreate();

  const { value } = await events.next();
  assert.deepEqual(await chains(), standing, 'no program was loaded again');
  assert.match((value!.json() as { message: string }).message, /attaches the chain that is still pinned/);
  await stage.receive(50, 8080);
  const counted = await numberIn(stage.xdpMap('port-count', '1.0', 'packet_count'));
  assert.equal(counted, 150);
});
