import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  discard,
  type Fixture,
  KEY_0,
  load,
  observed,
  PORT_COUNT,
  PORT_DROP,
  programId,
  refused,
  TC_COUNT,
  u64,
  XDP_ROOT,
} from './samples.js';

/** What stays in the kernel if others remove our pins. */
export function lostPinsContract(fixtureOf: () => Fixture): void {
  describe('a program whose pin was removed by others', () => {
    test('is found by the link that holds it, and pinned again with its maps', async () => {
      const { datapath } = fixtureOf();
      const root = await load(fixtureOf(), PORT_COUNT, 'xdpingress');
      await datapath.attach(root.hook, root.program, root.link);
      const [before, id] = [await observed(fixtureOf(), root), await programId(fixtureOf(), root)];
      const counts = before!.maps.find(({ name }) => name === 'packet_count')!.id;
      await datapath.unpublish(root.program);
      await datapath.unpublish(root.map('packet_count'));

      const lost = await observed(fixtureOf(), root);
      assert.deepEqual([lost?.programId, lost?.unpinned], [id, { program: true, maps: [counts] }]);
      await datapath.repin(root.dir, id, [counts]);

      const after = await observed(fixtureOf(), root);
      assert.deepEqual([after?.programId, after?.slot, after?.unpinned], [id, before?.slot, undefined]);
      assert.deepEqual(after?.maps.map((map) => map.id).toSorted(), before?.maps.map((map) => map.id).toSorted());
      await datapath.detach(root.hook, root.link);
      await discard(fixtureOf(), root);
    });

    test('is found by the slot that names it', async () => {
      const { datapath } = fixtureOf();
      const [root, next] = [
        await load(fixtureOf(), XDP_ROOT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
      ];
      const id = await programId(fixtureOf(), next);
      await datapath.setSlot(root.slot, next.program);
      await datapath.unpublish(next.program);

      const lost = await observed(fixtureOf(), next);
      assert.deepEqual([lost?.programId, lost?.unpinned], [id, { program: true, maps: [] }]);
      await datapath.repin(next.dir, id, []);

      assert.equal(await programId(fixtureOf(), next), id);
      await datapath.setSlot(root.slot, null);
      await discard(fixtureOf(), root, next);
    });

    test('is gone if nothing holds it, and its directory has no program', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), PORT_DROP, 'xdpingress');
      const id = await programId(fixtureOf(), program);
      await datapath.unpublish(program.program);

      await datapath.proveGone({ programs: [id], maps: [], links: [] });
      const torso = await observed(fixtureOf(), program);
      assert.deepEqual([torso?.programId, torso?.unpinned, torso?.slot?.next], [undefined, undefined, null]);
      assert.ok(torso!.maps.length > 0);
      await refused(datapath.repin(program.dir, id, []), 'KERNEL', program.dir);

      await datapath.discard(program.dir);
    });
  });

  describe('a slot whose pin was removed by others', () => {
    test('is empty, and its program reports it as unpinned', async () => {
      const { datapath } = fixtureOf();
      const [root, next] = [
        await load(fixtureOf(), XDP_ROOT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
      ];
      const [before, id] = [await observed(fixtureOf(), root), await programId(fixtureOf(), next)];
      await datapath.setSlot(root.slot, next.program);
      await datapath.unpublish(root.slot);

      const after = await observed(fixtureOf(), root);
      assert.deepEqual([after?.slot, after?.unpinned], [undefined, { program: false, maps: [before!.slot!.mapId] }]);
      await datapath.discard(next.dir);
      await datapath.proveGone({ programs: [id], maps: [], links: [] });

      await discard(fixtureOf(), root);
    });
  });

  describe('a public name whose map nothing uses any more', () => {
    test('is an orphan, with the name that the kernel keeps', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), TC_COUNT, 'egress');
      const path = program.publicPath('tc_packets');
      const map = (await observed(fixtureOf(), program))!.maps.find(({ name }) => name === 'tc_packets')!;
      await datapath.publish(program.map('tc_packets'), path);
      await datapath.writeMap(path, { set: [{ key: '00000000', value: u64(7) }], remove: [] });
      assert.equal((await datapath.observe()).orphans, undefined);

      await discard(fixtureOf(), program);

      const { publicMaps, orphans } = await datapath.observe();
      const { key: _key, value: _value, ...plain } = map;
      assert.deepEqual([[...publicMaps], orphans], [[[path, map.id]], [plain]]);
      assert.equal(Buffer.from((await datapath.readMap(path, KEY_0)) ?? []).toString('hex'), u64(7));
      await datapath.unpublish(path);
    });
  });
}
