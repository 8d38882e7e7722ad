import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { discard, type Fixture, load, observed, POLICY, PORT_COUNT, u16, u64 } from './samples.js';

export function readingContract(fixtureOf: () => Fixture): void {
  describe('many maps in one pass', () => {
    test('are read by key, by all keys, and with a value for each CPU', async () => {
      const { datapath } = fixtureOf();
      const program = await load(fixtureOf(), POLICY, 'xdpingress', {
        fill: [
          { name: 'policy_marks', args: [53, 80].map((key) => ({ key, value: '0x0100000000000000' })), path: 'a' },
          { name: 'policy_cpu_hash', args: [{ key: 7, value: { weight: 9, bias: -1 } }], path: 'b' },
        ],
      });
      const { hooks } = await datapath.observe();
      const maps = hooks.flatMap(({ loadedPrograms }) => loadedPrograms).find(({ dir }) => dir === program.dir)!.maps;
      const idOf = (name: string) => maps.find((map) => map.name === name)!.id;
      const read = (name: string) => ({ pin: program.map(name), mapId: idOf(name) });
      const [dns, http, none] = ['0035', '0050', '0001'].map((key) => Buffer.from(key, 'hex'));

      const [some, all, first, perCpu, stranger, nothing] = await datapath.readMaps([
        { ...read('policy_marks'), keys: [dns!, none!] },
        { ...read('policy_marks'), keys: { atMost: 2 } },
        { ...read('policy_marks'), keys: { atMost: 1 } },
        { ...read('policy_cpu_hash'), keys: { atMost: 2 } },
        { ...read('policy_marks'), mapId: idOf('policy_cpu_hash'), keys: [dns!] },
        { pin: `${program.dir}/maps/none`, mapId: 1, keys: [dns!] },
      ]);

      const hex = (bytes: readonly Uint8Array[]) => bytes.map((one) => Buffer.from(one).toString('hex'));
      assert.deepEqual(hex(some!.values), ['0100000000000000', '0000000000000000']);
      assert.deepEqual(hex(all!.keys).toSorted(), hex([dns!, http!]));
      assert.deepEqual([some!.more, all!.more, first!.more, first!.keys.length], [false, false, true, 1]);
      assert.deepEqual(hex(perCpu!.keys), ['0700']);
      assert.equal(perCpu!.stride, 8);
      assert.match(hex(perCpu!.values)[0]!, /^(09000000ff000000)+$/);
      assert.deepEqual([stranger, nothing], [undefined, undefined]);
      await discard(fixtureOf(), program);
    });

    test('are read up to any number of keys, wherever that number falls in the kernel’s table', async () => {
      const { datapath } = fixtureOf();
      const args = Array.from({ length: 300 }, (_, port) => ({ key: port, value: port }));
      const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress', {
        fill: [{ name: 'port_packets', args, path: 'a' }],
      });
      const found = (await observed(fixtureOf(), program))!.maps.find(({ name }) => name === 'port_packets')!;
      const pin = program.map('port_packets');

      for (let atMost = 1; atMost <= 302; atMost++) {
        const [reading] = await datapath.readMaps([{ pin, mapId: found.id, keys: { atMost } }]);
        const { keys, values, more } = reading!;
        const [ports, counted] = [
          keys.map((key) => key[0]! + 256 * key[1]!),
          values.map(([low, high]) => low! + 256 * high!),
        ];
        assert.deepEqual([new Set(ports).size, more], [Math.min(atMost, 300), atMost < 300], `at most ${atMost}`);
        assert.deepEqual(counted, ports);
      }
      await discard(fixtureOf(), program);
    });

    test('create keys that do not exist, and leave existing ones alone', async () => {
      const { datapath } = fixtureOf();
      const fill = [{ name: 'port_packets', args: [{ key: 80, value: 7 }], path: 'a' }];
      const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress', { fill });
      const found = (await observed(fixtureOf(), program))!.maps.find(({ name }) => name === 'port_packets')!;
      const keys = [80, 81].map((port) => Buffer.from(u16(port), 'hex'));
      const read = { pin: program.map('port_packets'), mapId: found.id };

      const [before] = await datapath.readMaps([{ ...read, keys: { atMost: 9 } }]);
      const [made] = await datapath.readMaps([{ ...read, keys: { atMost: 9 }, make: keys }]);

      assert.deepEqual([before!.keys.length, made!.keys.length], [1, 2]);
      const [again] = await datapath.readMaps([{ ...read, keys }]);
      assert.deepEqual(
        again!.values.map((value) => Buffer.from(value).toString('hex')),
        [u64(7), u64(0)],
      );
      await discard(fixtureOf(), program);
    });
  });
}
