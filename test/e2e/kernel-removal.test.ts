import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createTestbed } from '../support/testbed.js';
import { assertChain, marks, resultsOf } from './support-chain.js';
import { attachedXdp, namesOf, programIdsOf } from './support-kernel.js';
import { Stage } from './support-stage.js';

/*
 * A deploy is the whole desired state of the host: what it does not name goes.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'removal' });
});
after(() => stage.close());

test('a deploy removes the hooks and the interfaces that it does not name', async (t) => {
  // given chains at two hooks of one interface, and at another interface
  const other = await createTestbed();
  t.after(() => other.close());
  const payload = stage.payload({ xdp_ingress: marks([1]), tc_ingress: marks([1], 'tc') });
  await stage.send('deploy', [...payload, ...stage.payload({ xdp_ingress: marks([2]) }, other.iface)]);
  assert.deepEqual(namesOf(await stage.chain('xdpingress', other.iface)), ['xdp-mark-2@1.0']);
  assert.deepEqual(namesOf(await stage.chain('ingress')), ['tc-mark-1@1.0']);
  const ids = programIdsOf(await stage.chain());

  // when a deploy names one hook of them
  const ack = await stage.deploy({ xdp_ingress: marks([1]) });

  // then the others are gone, and that one was not touched
  assert.equal(ack.status, 'applied');
  assert.deepEqual(resultsOf(ack), { 'xdp-mark-1': 'unchanged', 'tc-mark-1': 'stopped', 'xdp-mark-2': 'stopped' });
  assert.deepEqual(programIdsOf(await assertChain(stage, ['xdp-mark-1@1.0'])), ids);
  assert.equal(await stage.chain('ingress'), undefined);
  assert.equal(await stage.chain('xdpingress', other.iface), undefined);
  assert.equal(await attachedXdp(other.iface), undefined);
  const state = await stage.kernel();
  assert.deepEqual(
    state.entries.filter((entry) => entry.includes(other.iface)),
    [],
  );
  assert.deepEqual(await stage.leaked(state), []);
});
