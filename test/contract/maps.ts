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
  refused,
  TC_COUNT,
  u16,
  u64,
} from './samples.js';

export function mapContract(fixtureOf: () => Fixture): void {
  describe('a map', () => {
    test('is changed as a whole, and changed back by the inverse', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), PORT_DROP, 'xdpingress');
      const ports = program.map('drop_ports');
      const content = async () => {
        const values = await Promise.all(
          [1, 2, 3].map((port) => datapath.readMap(ports, Buffer.from(u16(port), 'hex'))),
        );
        return values.map((value) => value?.[0]);
      };
      await datapath.writeMap(ports, {
        set: [
          { key: u16(1), value: '01' },
          { key: u16(2), value: '01' },
        ],
        remove: [],
      });

      const change = {
        set: [
          { key: u16(2), value: '05' },
          { key: u16(3), value: '01' },
        ],
        remove: [u16(1)],
      };
      const inverse = await datapath.inverseOf(ports, change);
      await datapath.writeMap(ports, change);
      assert.deepEqual(await content(), [undefined, 5, 1]);

      await datapath.writeMap(ports, inverse);
      assert.deepEqual(await content(), [1, 1, undefined]);

      await discard(fixtureOf(), program);
    });

    test('that does not exist is reported', async () => {
      const path = `${fixtureOf().bpffs}/l3none0/none/1_0/none`;

      await refused(fixtureOf().datapath.readMap(path, KEY_0), 'KERNEL', path);
      await refused(fixtureOf().datapath.writeMap(path, { set: [], remove: [] }), 'KERNEL', path);
    });
  });

  describe('a data map whose pin was removed by others', () => {
    test('is found by the program that uses it, and pinned again with its entries', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress');
      const before = await observed(fixtureOf(), program);
      const pin = program.map('packet_count');
      await datapath.writeMap(pin, { set: [{ key: '00000000', value: u64(7) }], remove: [] });
      await datapath.unpublish(pin);

      const { programId, unpinned, maps } = (await observed(fixtureOf(), program))!;
      const lost = before?.maps.find(({ name }) => name === 'packet_count')?.id;
      assert.deepEqual(unpinned, { program: false, maps: [lost] });
      assert.ok(!maps.some(({ name }) => name === 'packet_count'));
      await datapath.repin(program.dir, programId!, unpinned!.maps);

      const after = await observed(fixtureOf(), program);
      assert.equal(after?.unpinned, undefined);
      assert.equal(after?.maps.find(({ name }) => name === 'packet_count')?.id, lost);
      assert.equal(Buffer.from((await datapath.readMap(pin, KEY_0)) ?? []).toString('hex'), u64(7));
      await discard(fixtureOf(), program);
    });

    test('is not replaced by a map that the program does not use', async () => {
      const { datapath } = fixtureOf();
      const [program, other] = [
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
        await load(fixtureOf(), PORT_DROP, 'xdpingress'),
      ];
      const { programId } = (await observed(fixtureOf(), program))!;
      const foreign = (await observed(fixtureOf(), other))!.maps[0]!.id;

      await refused(datapath.repin(program.dir, programId!, [foreign]), 'KERNEL', program.dir);
      await refused(datapath.repin(program.dir, 0, []), 'KERNEL', program.dir);

      await discard(fixtureOf(), program, other);
    });
  });

  describe('a public name', () => {
    test('is set, moved to another loaded program, and removed', async () => {
      const { datapath } = fixtureOf();
      const [first, second] = [
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
      ];
      const path = first.publicPath('packet_count');
      const named = async () => (await datapath.observe()).publicMaps.get(path);
      const idOf = async (loaded: typeof first) =>
        (await observed(fixtureOf(), loaded))?.maps.find(({ name }) => name === 'packet_count')?.id;

      await datapath.publish(first.map('packet_count'), path);
      assert.equal(await named(), await idOf(first));
      await datapath.publish(first.map('packet_count'), path);
      assert.equal(await named(), await idOf(first));
      assert.deepEqual([...(await datapath.observe()).publicMaps.keys()], [path]);
      await datapath.publish(second.map('packet_count'), path);
      assert.equal(await named(), await idOf(second));
      assert.notEqual(await idOf(first), await idOf(second));

      await datapath.unpublish(path);
      await datapath.unpublish(path);
      await discard(fixtureOf(), first, second);
    });

    test('keeps its map alive without the loaded program', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), TC_COUNT, 'egress');
      const path = program.publicPath('tc_packets');
      await datapath.publish(program.map('tc_packets'), path);
      await datapath.writeMap(path, { set: [{ key: '00000000', value: u64(7) }], remove: [] });

      await discard(fixtureOf(), program);

      assert.equal(Buffer.from((await datapath.readMap(path, KEY_0)) ?? []).toString('hex'), u64(7));
      await datapath.unpublish(path);
    });

    test('cannot be given to a map that does not exist', async () => {
      const { bpffs, datapath } = fixtureOf();
      const path = `${bpffs}/l3none0/none/1_0/none`;

      await refused(datapath.publish(`${bpffs}/nothing`, path), 'KERNEL', `${bpffs}/nothing`);

      await datapath.unpublish(path);
    });
  });
}
