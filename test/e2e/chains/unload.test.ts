import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { marks, resultsOf } from '../support/chain.js';
import { bpftool, idsOf, surviving } from '../support/kernel.js';
import { Stage } from '../support/stage.js';

/*
 * An unload is verified: when the acknowledgement arrives, the removed objects are gone from the kernel, or it names
 * what is left and its holder.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'unload' });
});
after(() => stage.close());

test('when a removal is acknowledged, programs, slots, maps and links are gone from the kernel', async () => {
  await stage.deploy({ xdp_ingress: marks([1, 2, 3, 4, 5]), tc_egress: marks([1, 2], 'tc') });
  const ids = idsOf(await stage.kernel());
  assert.deepEqual([ids.prog.size, ids.link.size], [9, 2]);

  const ack = await stage.deploy({});
  const left = surviving(ids);

  assert.equal(ack.status, 'applied');
  assert.deepEqual([ack.errors, left], [[], []]);
  assert.deepEqual((await stage.kernel()).entries, []);
});

test('when a program leaves a chain, everything that only it used is gone, and the rest stays', async () => {
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
  const before = idsOf(await stage.kernel());

  await stage.delete({ xdp_ingress: ['xdp-mark-3'] });
  const left = surviving(before);

  const after = idsOf(await stage.kernel());
  assert.equal(after.prog.size, 3);
  assert.deepEqual(left, surviving(after));
  await stage.deploy({});
});

test('the acknowledgement names the objects of a removed program that a foreign holder keeps, and the holder', async (t) => {
  await stage.deploy({ xdp_ingress: marks([1, 2]) });
  const { members } = (await stage.chain())!;
  const { dir, programId } = members[2]!;
  const { id } = (await stage.kernel()).maps.find(({ pin }) => pin === `${dir}/maps/mark_seen`)!;
  // given foreign pins of a map and of the program
  const theirs = await mkdtemp(join(stage.bpffs, 'theirs-'));
  t.after(() => rm(theirs, { recursive: true, force: true }));
  await bpftool('map', 'pin', 'pinned', join(stage.bpffs, dir, 'maps/mark_seen'), join(theirs, 'map'));
  await bpftool('prog', 'pin', 'pinned', join(stage.bpffs, dir, 'prog'), join(theirs, 'prog'));

  const ack = await stage.delete({ xdp_ingress: ['xdp-mark-2'] });

  assert.equal(ack.status, 'applied', 'it is out of the chain');
  assert.deepEqual(resultsOf(ack), { 'xdp-mark-1': 'unchanged', 'xdp-mark-2': 'stopped' });
  assert.deepEqual(
    ack.errors.map(({ code }) => code),
    ['LEFTOVER'],
  );
  const { message } = ack.errors[0]!;
  assert.ok(
    message.includes(`Program ${programId} is still in the kernel; it is held by the pin ${theirs}/prog`),
    message,
  );
  assert.match(message, new RegExp(`Map ${id} is still in the kernel; it is held by .*the pin ${theirs}/map`));
  assert.ok(ack.message?.includes(message));
});
