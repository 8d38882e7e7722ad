import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeMapArgs, holds, named } from '../../src/domain/mapvalue.js';
import type { MapInfo } from '../../src/domain/observed.js';
import type { MapValue } from '../../src/domain/program.js';
import {
  discard,
  type Fixture,
  type Loaded,
  load,
  observed,
  refused,
  requestFor,
  type Sample,
  u64,
} from './samples.js';

/*
 * Maps of the kinds that native/bpf/map_kinds.bpf.c has: those whose types the kernel or libbpf drop, global variables,
 * and those that take no entries. What could be written can be compared, changed and written again.
 */

export const KINDS: Sample = { object: 'map_kinds', entryFunction: 'xdp_kinds', slotMap: 'kinds_next' };
const TC_KINDS: Sample = { object: 'map_kinds', entryFunction: 'tc_kinds', slotMap: 'kinds_tc_next' };

interface Kind {
  readonly name: string;
  readonly key: MapValue;
  /** The same value as a payload may give it; `IFACE` and `INDEX` stand for an interface. */
  readonly values: readonly MapValue[];
  readonly other: MapValue;
  /** The bytes of the key, and of the value where an interface does not decide them. */
  readonly keyBytes: string;
  readonly valueBytes?: string;
}

const INDEX = 'INDEX';
const IFACE = 'IFACE';

/** A map or variable, an entry in several forms, and another value. */
export const MAP_KINDS: readonly Kind[] = [
  {
    name: 'kinds_struct_key',
    key: { byte: [2, 0, 0, 0] },
    values: [{ first: 1, second: 2 }, '0x0100000002000000'],
    other: { first: 1, second: 3 },
    keyBytes: '02000000',
    valueBytes: '0100000002000000',
  },
  { name: 'kinds_ports', key: 3, values: [INDEX, IFACE], other: 1, keyBytes: '03000000' },
  {
    name: 'kinds_port_values',
    key: 0,
    values: [{ ifindex: INDEX }, { ifindex: INDEX, bpf_prog: { fd: -1 } }, { ifindex: IFACE, bpf_prog: '0x00000000' }],
    other: { ifindex: 1, bpf_prog: { fd: 0 } },
    keyBytes: '00000000',
  },
  {
    name: 'kinds_targets',
    key: 77,
    values: [{ ifindex: INDEX, bpf_prog: '0x00000000' }, { ifindex: IFACE }, IFACE],
    other: { ifindex: 1 },
    keyBytes: '4d000000',
  },
  {
    name: 'kinds_cpus',
    key: 0,
    values: [{ qsize: 64, bpf_prog: '0x00000000' }, '0x4000000000000000'],
    other: { qsize: 128, bpf_prog: { fd: 0 } },
    keyBytes: '00000000',
    valueBytes: '4000000000000000',
  },
  {
    name: 'kinds_counters',
    key: 1,
    values: [
      { packets: 5, bytes: 258 },
      { rx_packets: 5, bytes_low: 258, bytes_high: 0 },
    ],
    other: { packets: 6, bytes: 258 },
    keyBytes: '01000000',
  },
  {
    name: 'kinds_rules',
    key: { family: 2, ip4: '10.0.0.1', port: 53, protocol: 17 },
    values: [1, '0x1'],
    other: 2,
    keyBytes: `02000000${'0a000001'.padEnd(32, '0')}35001100`,
    valueBytes: '01000000',
  },
  { name: 'kinds_write_only', key: 1, values: [7], other: 8, keyBytes: '01000000', valueBytes: u64(7) },
  { name: 'kinds_program_reads', key: 1, values: [7], other: 8, keyBytes: '01000000', valueBytes: u64(7) },
];

/** A global variable, a value, another one, and the section that it is in. */
const VARIABLES: readonly (readonly [string, MapValue, MapValue, string])[] = [
  ['kinds_seen', '0x1122334455667788', 5, '.bss'],
  ['kinds_step', 7, 9, '.data'],
  ['kinds_flags', [1, 2, 3], '0x040506', '.bss'],
];

/** A map, an entry, the field at fault, and words. */
const REFUSED: readonly (readonly [string, MapValue, MapValue, string, string])[] = [
  ['kinds_sockets', 0, 1, 'name', 'kinds_sockets is of map type 17 (XSKMAP): it holds sockets'],
  ['kinds_queue', 0, 1, 'name', 'kinds_queue is of map type 22 (QUEUE): it holds a queue'],
  ['kinds_bloom', 0, 1, 'name', 'cannot be read back'],
  ['kinds_read_only', 0, 1, 'name', 'declared with BPF_F_RDONLY'],
  ['kinds_ports', 8, 1, 'args.0.key', 'keys go from 0 to 7'],
  ['kinds_ports', 0, 0, 'args.0.value', 'the index of no interface'],
  ['kinds_ports', 0, 7_000_000, 'args.0.value', 'the interface with index 7000000, which this host does not have'],
  ['kinds_targets', 0, { ifindex: 'l3none0' }, 'args.0.value', 'the interface l3none0, which this host does not have'],
  ['kinds_targets', 0, { ifindex: 1, bpf_prog: { fd: 3 } }, 'args.0.value', 'a file descriptor'],
  ['kinds_cpus', 0, { qsize: 0, bpf_prog: { fd: 0 } }, 'args.0.value', 'a queue of 0 packets'],
  ['kinds_rules', { family: 2, port: 1, protocol: 1 }, 1, 'args.0.key', 'give ip4, or ip6'],
  ['kinds_rules', { family: 2, ip4: 1, ip6: '::1', port: 1, protocol: 1 }, 1, 'args.0.key', 'more than one of them'],
  ['kinds_counters', 0, { packets: 1, bytes: 1, bytes_low: 1 }, 'args.0.value', 'more than one of them'],
  ['kinds_step', 1, 1, 'args.0.key', 'keys go from 0 to 0'],
  ['kinds_step', 0, -1, 'args.0.value', '-1 does not fit'],
  ['kinds_limit', 0, 'much', 'args.0.value', 'an integer'],
];

export function mapKindsContract(fixtureOf: () => Fixture): void {
  const fill = (name: string, key: MapValue, value: MapValue) => [{ name, path: 'map_args.0', args: [{ key, value }] }];
  const mapsOf = async (loaded: Loaded) => (await observed(fixtureOf(), loaded))!.maps;
  const interfaces = async () => (await fixtureOf().datapath.observe()).interfaces;

  /** With the fixture's interface, which is the only one that every datapath has. */
  async function given(value: MapValue): Promise<MapValue> {
    const index = (await interfaces()).get(fixtureOf().iface)!;
    const text = JSON.stringify(value).replaceAll(`"${INDEX}"`, String(index));
    return JSON.parse(text.replaceAll(IFACE, fixtureOf().iface)) as MapValue;
  }

  /** What a map holds under a key, as the planner learns it. */
  async function stored(loaded: Loaded, map: MapInfo, key: string): Promise<string | null> {
    return (await fixtureOf().datapath.readEntries(loaded.map(map.name), [key])).get(key) ?? null;
  }

  async function assertHolds(loaded: Loaded, name: string, key: MapValue, value: MapValue, is = true): Promise<void> {
    const { map } = named(await mapsOf(loaded), name)!;
    const entries = encodeMapArgs(map, { name, args: [{ key, value }] }, '', await interfaces());
    assert.ok(entries.length > 0);
    for (const entry of entries) assert.equal(holds(map, entry, await stored(loaded, map, entry.key)), is, name);
  }

  describe('a map of any kind', () => {
    for (const { name, key, values, other, keyBytes, valueBytes } of MAP_KINDS) {
      test(`is written, compared and written again: ${name}`, async () => {
        for (const form of values) {
          const value = await given(form);
          const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { fill: fill(name, key, value) });
          const { map } = named(await mapsOf(loaded), name)!;
          const pin = loaded.map(name);

          const read = await fixtureOf().datapath.readMap(pin, Buffer.from(keyBytes, 'hex'));
          assert.ok(read !== undefined);
          if (valueBytes !== undefined) assert.equal(Buffer.from(read).toString('hex'), valueBytes);
          for (const same of values) await assertHolds(loaded, name, key, await given(same));
          if (typeof key === 'object') await assertHolds(loaded, name, `0x${keyBytes}`, value);
          await assertHolds(loaded, name, key, other, false);

          const entries = encodeMapArgs(map, { name, args: [{ key, value: other }] }, '', await interfaces());
          const change = { set: entries.map((entry) => ({ key: entry.key, value: entry.value })), remove: [] };
          const there = entries.every(({ waits }) => waits === undefined);
          if (there) {
            const inverse = await fixtureOf().datapath.inverseOf(pin, change);
            await fixtureOf().datapath.writeMap(pin, change);
            await assertHolds(loaded, name, key, other);
            await fixtureOf().datapath.writeMap(pin, inverse);
          }
          await assertHolds(loaded, name, key, value);
          await discard(fixtureOf(), loaded);
        }
      });
    }

    for (const [name, key, value, field, words] of REFUSED) {
      test(`is refused at ${field}, before anything is loaded: ${name} ${JSON.stringify({ key, value })}`, async () => {
        const request = requestFor(fixtureOf(), KINDS, 'xdpingress', { fill: fill(name, key, value) });
        const error = await refused(fixtureOf().datapath.load(request), 'MAP_VALUE_INVALID', words);
        assert.match(error.path ?? '', new RegExp(`^map_args\\.0\\.${field.replaceAll('.', '\\.')}`));
      });
    }

    test('leaves an entry out that may wait for its interface', async () => {
      const waiting = fill('kinds_ports', 1, 7_000_000).map((args) => ({ ...args, mayWait: true as const }));
      const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { fill: waiting });
      const { map } = named(await mapsOf(loaded), 'kinds_ports')!;
      assert.equal(await stored(loaded, map, '01000000'), null);
      await discard(fixtureOf(), loaded);
    });
  });

  describe('a global variable', () => {
    for (const [name, value, other, section] of VARIABLES) {
      test(`of ${section} is set by its name, and changed while the others stay: ${name}`, async () => {
        const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { fill: fill(name, 0, value) });
        const { map } = named(await mapsOf(loaded), name)!;
        const pin = loaded.map(map.name);
        await assertHolds(loaded, name, 0, value);
        const before = await stored(loaded, map, '00000000');

        const set = encodeMapArgs(map, { name, args: [{ key: 0, value: other }] }, '');
        const inverse = await fixtureOf().datapath.inverseOf(pin, { set, remove: [] });
        await fixtureOf().datapath.writeMap(pin, { set, remove: [] });
        await assertHolds(loaded, name, 0, other);
        for (const [neighbour, , , where] of VARIABLES.filter((one) => one[3] === section && one[0] !== name)) {
          assert.equal(named([map], neighbour)?.map, map, where);
          await assertHolds(loaded, neighbour, 0, neighbour === 'kinds_flags' ? [0, 0, 0] : 0);
        }
        await fixtureOf().datapath.writeMap(pin, inverse);
        assert.equal(await stored(loaded, map, '00000000'), before);
        await discard(fixtureOf(), loaded);
      });
    }

    test('that is constant is set before the load; others keep what the object gives them', async () => {
      const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { fill: fill('kinds_limit', 0, 900) });
      await assertHolds(loaded, 'kinds_limit', 0, 900);
      await assertHolds(loaded, 'kinds_range', 0, { low: 1, high: 2 });
      await assertHolds(loaded, 'kinds_step', 0, 1);
      await discard(fixtureOf(), loaded);
    });

    test('can be given with others of its section, by the name of the map', async () => {
      const loaded = await load(fixtureOf(), KINDS, 'xdpingress', {
        fill: fill('map_kind.rodata', 0, { kinds_range: { low: 3, high: 4 } }),
      });
      await assertHolds(loaded, 'kinds_range', 0, { low: 3, high: 4 });
      await assertHolds(loaded, 'kinds_limit', 0, 0);
      await discard(fixtureOf(), loaded);
    });

    test('and a member without name can be monitored', async () => {
      const monitors = [
        { name: 'kinds_seen', field: '' },
        { name: 'kinds_range', field: 'high' },
        { name: 'map_kind.bss', field: 'kinds_flags.2' },
        { name: 'kinds_counters', field: 'rx_packets' },
        { name: 'kinds_counters', field: 'bytes_high' },
      ].map((one) => ({ ...one, key: 0, aggregator: 'scalar' as const, labels: {} }));
      await discard(fixtureOf(), await load(fixtureOf(), KINDS, 'xdpingress', { monitors }));

      const wrong = (changes: object) => [{ ...monitors[0]!, ...changes }];
      const loading = (changes: object) =>
        fixtureOf().datapath.load(requestFor(fixtureOf(), KINDS, 'xdpingress', { monitors: wrong(changes) }));
      await refused(loading({ name: 'kinds_none' }), 'MAP_NOT_FOUND', 'kinds_seen');
      await refused(loading({ name: 'kinds_range' }), 'MAP_VALUE_INVALID', 'low, high');
      await refused(loading({ name: 'kinds_write_only' }), 'MAP_VALUE_INVALID', 'BPF_F_WRONLY');
    });
  });

  describe('a monitored key', () => {
    const monitors = [{ name: 'kinds_counted', key: 0, aggregator: 'scalar' as const, field: '', labels: {} }];

    test('exists as soon as the program is loaded', async () => {
      const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { monitors });
      await assertHolds(loaded, 'kinds_counted', 0, 0);
      await discard(fixtureOf(), loaded);
    });

    test('is not made in a map that is taken over, which the commit changes', async () => {
      const first = await load(fixtureOf(), KINDS, 'xdpingress');
      const share = [{ map: 'kinds_counted', pin: first.map('kinds_counted') }];
      const second = await load(fixtureOf(), KINDS, 'xdpingress', { share, monitors });
      const { map } = named(await mapsOf(second), 'kinds_counted')!;
      assert.equal(await stored(second, map, '00000000'), null);
      await discard(fixtureOf(), second, first);
    });

    test('is made once, and taken back by the inverse only if it was made', async () => {
      const { datapath } = fixtureOf();
      const loaded = await load(fixtureOf(), KINDS, 'xdpingress', { fill: fill('kinds_counted', 1, 5) });
      const pin = loaded.map('kinds_counted');
      const make = { set: [], remove: [], make: ['00000000', '01000000'] };
      const inverse = await datapath.inverseOf(pin, make);
      await datapath.writeMap(pin, make);
      await assertHolds(loaded, 'kinds_counted', 0, 0);
      await assertHolds(loaded, 'kinds_counted', 1, 5);
      assert.deepEqual(inverse, { set: [], remove: ['00000000'] });
      await datapath.writeMap(pin, inverse);
      const { map } = named(await mapsOf(loaded), 'kinds_counted')!;
      assert.equal(await stored(loaded, map, '00000000'), null);
      await discard(fixtureOf(), loaded);
    });
  });

  test('a map that asks to be pinned by its name is one for an XDP and a TC program', async () => {
    const xdp = await load(fixtureOf(), KINDS, 'xdpingress');
    const egress = await load(fixtureOf(), TC_KINDS, 'egress', { otherSides: [`${xdp.dir}9`, xdp.dir] });
    const idIn = async (loaded: Loaded, name: string) => (await mapsOf(loaded)).find((map) => map.name === name)?.id;
    assert.equal(await idIn(xdp, 'kinds_shared'), await idIn(egress, 'kinds_shared'));
    assert.notEqual(await idIn(xdp, 'kinds_rules'), await idIn(egress, 'kinds_rules'));
    await discard(fixtureOf(), egress, xdp);
  });
}
