import assert from 'node:assert/strict';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { payloadProgram } from '../../support/packages.js';
import { assertChain, assertLinked, assertPublicMaps, mapOf } from '../support/chain.js';
import { attachedXdp, bpftool, type Chain, hexBytes, numberIn, programIdsOf } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * The kernel outlives the agent. A new agent adopts the programs that run and repairs what was changed by hand. A
 * stopped agent leaves its programs running unless it is configured otherwise.
 */

const XDP_CHAIN = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0'];
const PROGRAMS = {
  xdp_ingress: [
    payloadProgram('xdp-mark-1', { seq_id: 1 }),
    payloadProgram('xdp-mark-2', { seq_id: 2 }),
    payloadProgram('xdp-mark-3', { seq_id: 3 }),
  ],
  tc_ingress: [payloadProgram('tc-mark-1')],
  tc_egress: [payloadProgram('tc-mark-2')],
};

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'adoption', env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
});
after(() => stage.close());

let chain: Chain;
beforeEach(async () => {
  await stage.deploy(PROGRAMS);
  chain = await assertLinked(stage, XDP_CHAIN);
});

/** Waits until the agent reports a repair in words that contain these. Earlier reports do not count. */
async function repairOf(what: string): Promise<void> {
  const subscription = stage.nats.subscribe(`l3af.evt.${stage.host}.drift-repaired`);
  const patience = setTimeout(() => subscription.unsubscribe(), 20_000);
  const heard: string[] = [];
  for await (const event of subscription) {
    heard.push(event.json<{ message: string }>().message);
    if (heard.at(-1)?.includes(what)) break;
  }
  clearTimeout(patience);
  assert.ok(heard.at(-1)?.includes(what), `no repair of ${what} was reported, but: ${heard.join('; ') || 'none'}`);
}

test('a killed agent leaves the chains running, and the next one adopts them', async () => {
  // given chains in place
  const before = await stage.kernel();

  // when the agent is killed
  await stage.agent.kill('SIGKILL');

  // then the chains are unchanged, and packets are still counted
  await assertChain(stage, XDP_CHAIN);
  await assertChain(stage, ['tc-mark-1@1.0'], 'ingress');
  await assertChain(stage, ['tc-mark-2@1.0'], 'egress');
  assert.deepEqual(await stage.kernel(), before);

  // and when a new agent starts, then every program, map and link is the same one
  await stage.agent.start();
  assert.deepEqual(await stage.kernel(), before);
  await assertChain(stage, XDP_CHAIN);
  assert.equal((await stage.deploy(PROGRAMS)).status, 'unchanged');
  assert.deepEqual(await stage.kernel(), before);
});

test('an agent that is told to stop leaves the chains running', async () => {
  const before = await stage.kernel();

  const { code } = await stage.agent.stop();

  assert.equal(code, 0);
  assert.deepEqual(await stage.kernel(), before);
  await assertChain(stage, XDP_CHAIN);
  await stage.agent.start();
  assert.deepEqual(await stage.kernel(), before);
});

test('an agent with --detach-on-exit removes everything when it stops, and the next one restores it', async () => {
  // given an agent that was started with --detach-on-exit
  await stage.agent.stop();
  const detaching = stage.successor(['--detach-on-exit']);
  await detaching.start();
  await assertChain(stage, XDP_CHAIN);

  // when it is stopped
  const { code } = await detaching.stop();

  // then nothing is attached, pinned or loaded any more
  assert.equal(code, 0);
  assert.equal(await attachedXdp(stage.bed.iface), undefined);
  const state = await stage.kernel();
  assert.deepEqual(state.entries, []);
  assert.deepEqual(await stage.leaked(state), []);

  // and the desired state was kept
  await stage.agent.start();
  await assertChain(stage, XDP_CHAIN);
  await assertChain(stage, ['tc-mark-2@1.0'], 'egress');
});

test('a link that somebody has unpinned is attached again', async () => {
  // given a chain that only the pin keeps attached to its hook
  const link = join(stage.bpffs, 'links', stage.bed.iface, 'xdp-root', 'latest', 'xdpingress');
  const repair = repairOf(`${stage.bed.iface}/xdpingress`);

  // when it is removed
  await unlink(link);

  // then the same programs are attached again
  await repair;
  const repaired = await assertChain(stage, XDP_CHAIN);
  assert.notEqual(repaired.linkId, chain.linkId);
  assert.deepEqual(programIdsOf(repaired), programIdsOf(chain));
});

test('a slot that somebody has emptied is filled again', async () => {
  // given a chain that has counted packets
  await assertChain(stage, XDP_CHAIN);
  const counted = await numberIn(mapOf(stage, chain.members[3]!, 'mark_packets'));
  const repair = repairOf(`${stage.bed.iface}/xdpingress`);

  // when the slot of the middle program is emptied
  await bpftool('map', 'delete', 'id', String(chain.members[2]!.slotId), 'key', ...hexBytes(new Uint8Array(4)));

  // then packets reach the tail again, and it continues to count from where it was
  await repair;
  const tail = (await assertLinked(stage, XDP_CHAIN)).members[3]!;
  assert.equal(await numberIn(mapOf(stage, tail, 'mark_packets')), counted);
  const repaired = await assertChain(stage, XDP_CHAIN);
  assert.equal(repaired.linkId, chain.linkId);
  assert.equal(programIdsOf(repaired)['xdp-mark-1'], programIdsOf(chain)['xdp-mark-1']);
  assert.deepEqual(await stage.leaked(await stage.kernel()), []);
});

test('a program that somebody has unpinned is pinned again', async () => {
  // given that the slot of its neighbour still holds the program
  const repair = repairOf('pin the program of xdp-mark-2');

  // when the pin by which the agent knows the program is removed
  await unlink(join(stage.bpffs, chain.members[2]!.dir, 'prog'));

  // then the same program is in its place
  await repair;
  const repaired = await assertChain(stage, XDP_CHAIN);
  assert.deepEqual(programIdsOf(repaired), programIdsOf(chain));
  assert.deepEqual(await stage.leaked(await stage.kernel()), []);
});

test('when somebody has removed the public name of a map, it is created again', async () => {
  const path = stage.xdpMap('xdp-mark-2', '1.0', 'mark_packets');
  const repair = repairOf(path);

  await unlink(path);

  await repair;
  assert.deepEqual(programIdsOf(await assertChain(stage, XDP_CHAIN)), programIdsOf(chain));
  const where = { iface: stage.bed.iface, direction: 'xdpingress', slot: 'mark_next' } as const;
  assertPublicMaps(await stage.kernel(), chain, where);
});

test('an interface that is deleted and created again gets its chains back', async () => {
  // An observation between the deletion and the creation finds the dead link first, and removes it.
  const repair = repairOf(`${stage.bed.iface}/xdpingress: attaches the chain that is still pinned`);

  await stage.bed.recreate();

  await repair;
  assert.deepEqual(programIdsOf(await assertChain(stage, XDP_CHAIN)), programIdsOf(chain));
  await assertChain(stage, ['tc-mark-1@1.0'], 'ingress');
  await assertChain(stage, ['tc-mark-2@1.0'], 'egress');
});
