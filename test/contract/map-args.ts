import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MapValue } from '../../src/domain/program.js';
import { assertEmpty, discard, type Fixture, load, observed, POLICY, refused, requestFor } from './samples.js';

/*
 * Keys and values of a payload in maps of each type, according to the types in the object's BTF. The expected bytes are
 * written out, independent of the code that encodes them.
 */

export const ENDPOINT = { address: '198.18.0.1', port: 53, protocol: 17, fragment: true };
export const ENDPOINT_BYTES = 'c6120001' + '0035' + '11' + '01';

export const RULE = {
  verdict: 'VERDICT_DROP',
  limit: { rate: '18446744073709551615', offset: -2 },
  next_hop: '02:00:5e:10:00:01',
  label: 'dns',
  tags: [1, 2, 0xffff],
  priority: 10,
  group: 0xabc,
  logged: true,
};
export const RULE_BYTES = [
  ...['07000000', '00000000'], // verdict, and padding
  ...['ffffffffffffffff', 'feff', '000000000000'], // limit
  ...['02005e100001', '646e73000000000000000000', '01000200ffff'], // next_hop, label, tags
  ...['caab', '01', '0000000000'], // priority in the lower 4 bits and group in the upper 12; logged
].join('');

/** Map, key, value, and the expected bytes. For a per-CPU map: those of one CPU. */
const ENTRIES: readonly (readonly [string, MapValue, MapValue, string, string])[] = [
  ['policy_rules', ENDPOINT, RULE, ENDPOINT_BYTES, RULE_BYTES],
  ['policy_rules', `0x${ENDPOINT_BYTES}`, `0x${RULE_BYTES}`, ENDPOINT_BYTES, RULE_BYTES],
  ['policy_prefixes', '10.1.2.3/16', 'VERDICT_COUNT', '100000000a010000', '01000000'],
  ['policy_prefixes', { length: 8, address: '10.1.2.3' }, 7, '080000000a000000', '07000000'],
  ['policy_marks', 53, { number: 258 }, '0035', '0201000000000000'],
  ['policy_budgets', 3, { packets: 1000 }, '03000000', `e803000000000000${'00'.repeat(8)}`],
  ['policy_marks', 53, '0x0102030405060708', '0035', '0102030405060708'],
  ['policy_cpu_array', 7, { weight: '0x10', bias: -1 }, '07000000', '10000000ff000000'],
  ['policy_cpu_hash', 80, { weight: 1, bias: 127 }, '5000', '010000007f000000'],
  ['policy_cpu_lru', 80, '0x0100000002000000', '5000', '0100000002000000'],
];

/** Map, key, value, the wrong field, and words of the message. */
const REFUSED: readonly (readonly [string, MapValue, MapValue, string, string | RegExp])[] = [
  ['policy_rules', { ...ENDPOINT, adress: 1 }, RULE, 'key.adress', 'struct endpoint has no field "adress"'],
  ['policy_rules', { address: 1, port: 1, protocol: 1 }, RULE, 'key.fragment', /fragment in a key .* is missing/],
  ['policy_rules', 5, RULE, 'key', /Expected an object {address, port, protocol, fragment}/],
  ['policy_rules', ENDPOINT, { ...RULE, verdict: 'VERDICT_NONE' }, 'value.verdict', 'VERDICT_PASS, VERDICT_COUNT'],
  ['policy_rules', ENDPOINT, { ...RULE, limit: { rate: -1, offset: 0 } }, 'value.limit.rate', '-1 does not fit'],
  ['policy_rules', ENDPOINT, { ...RULE, limit: { rate: 1, offset: 32768 } }, 'value.limit.offset', '-32768 to 32767'],
  ['policy_rules', ENDPOINT, { ...RULE, tags: [1, 2] }, 'value.tags', 'a list of 3'],
  ['policy_rules', ENDPOINT, { ...RULE, tags: [1, 2, 65536] }, 'value.tags.2', '0 to 65535'],
  ['policy_rules', ENDPOINT, { ...RULE, next_hop: '02:00' }, 'value.next_hop', 'a MAC address'],
  ['policy_rules', ENDPOINT, { ...RULE, label: 'twelve chars' }, 'value.label', '12 bytes with the zero at the end'],
  ['policy_rules', ENDPOINT, { ...RULE, priority: 16 }, 'value.priority', 'which has 4 bits: expected 0 to 15'],
  ['policy_rules', ENDPOINT, { ...RULE, logged: 2 }, 'value.logged', 'expected 0 to 1'],
  ['policy_rules', ENDPOINT, { ...RULE, logged: 'yes' }, 'value.logged', 'true or false'],
  ['policy_prefixes', '10.0.0.0/33', 0, 'key', 'more than 32'],
  ['policy_prefixes', { length: 33, address: 0 }, 0, 'key', 'more than 32'],
  ['policy_budgets', 4, { packets: 1 }, 'key', 'keys go from 0 to 3'],
  ['policy_budgets', 0, { packets: 1, lock: 0 }, 'value.lock', 'only the kernel writes'],
  ['policy_budgets', 0, { packets: 2 ** 53 }, 'value.packets', 'as a string'],
  ['policy_marks', 53, 1, 'value', 'with one of {number, bytes}'],
  ['policy_marks', 53, { number: 1, bytes: '0x0100000000000000' }, 'value', 'more than one of them is given'],
  ['policy_marks', 65536, '0x0102030405060708', 'key', '0 to 65535'],
  [
    'policy_cpu_array',
    0,
    Array(4096).fill({ weight: 1, bias: 1 }),
    'value',
    /a list of \d+, one for each possible CPU/,
  ],
];

export function mapArgsContract(fixtureOf: () => Fixture): void {
  const fill = (name: string, key: MapValue, value: MapValue) => [{ name, path: 'map_args.0', args: [{ key, value }] }];

  describe('arguments', () => {
    for (const [name, key, value, keyBytes, valueBytes] of ENTRIES) {
      const shown = JSON.stringify({ key, value }).slice(0, 80);
      test(`for ${name} are encoded by its types: ${shown}`, async () => {
        const loaded = await load(fixtureOf(), POLICY, 'xdpingress', { fill: fill(name, key, value) });

        const { cpus = 1 } = (await observed(fixtureOf(), loaded))!.maps.find((map) => map.name === name)!;
        const read = await fixtureOf().datapath.readMap(loaded.map(name), Buffer.from(keyBytes, 'hex'));
        assert.equal(Buffer.from(read ?? []).toString('hex'), valueBytes.repeat(cpus));

        await discard(fixtureOf(), loaded);
      });
    }

    test('for a per-CPU map may be a list of one value for each CPU', async () => {
      const plain = await load(fixtureOf(), POLICY, 'xdpingress');
      const { cpus = 1 } = (await observed(fixtureOf(), plain))!.maps.find(({ name }) => name === 'policy_cpu_hash')!;
      await discard(fixtureOf(), plain);

      const value = Array.from({ length: cpus }, (_, cpu) => ({ weight: cpu + 1, bias: 0 }));
      const loaded = await load(fixtureOf(), POLICY, 'xdpingress', { fill: fill('policy_cpu_hash', 80, value) });

      const read = Buffer.from(
        (await fixtureOf().datapath.readMap(loaded.map('policy_cpu_hash'), Buffer.from('5000', 'hex'))) ?? [],
      );
      const weights = Array.from({ length: cpus }, (_, cpu) => read.readUInt32LE(cpu * 8));
      assert.deepEqual(
        weights,
        value.map(({ weight }) => weight),
      );
      await discard(fixtureOf(), loaded);
    });

    for (const [name, key, value, field, words] of REFUSED) {
      const shown = JSON.stringify({ key, value }).slice(0, 80);
      test(`for ${name} are refused at ${field}, and leave nothing: ${shown}`, async () => {
        const request = requestFor(fixtureOf(), POLICY, 'xdpingress', { fill: fill(name, key, value) });

        const error = await refused(fixtureOf().datapath.load(request), 'MAP_VALUE_INVALID', words);

        assert.equal(error.path, `map_args.0.args.0.${field}`);
        await assertEmpty(fixtureOf());
      });
    }

    test('have the same meaning for existing maps as for new ones', async () => {
      const loaded = await load(fixtureOf(), POLICY, 'xdpingress');

      const { maps } = (await observed(fixtureOf(), loaded))!;

      const rules = maps.find(({ name }) => name === 'policy_rules');
      assert.equal(rules?.key?.kind, 'struct');
      assert.deepEqual(
        rules.key.kind === 'struct' && rules.key.fields.map(({ name, bitOffset }) => [name, bitOffset]),
        [
          ['address', 0],
          ['port', 32],
          ['protocol', 48],
          ['fragment', 56],
        ],
      );
      await discard(fixtureOf(), loaded);
    });
  });

  describe('a hash that is too full', () => {
    test('takes all entries or none', async () => {
      const { datapath } = fixtureOf();
      const loaded = await load(fixtureOf(), POLICY, 'xdpingress');
      const rules = loaded.map('policy_rules');
      const entry = (n: number) => ({ key: `0${n}`.repeat(8), value: '00'.repeat(56) });
      await datapath.writeMap(rules, { set: [1, 2].map(entry), remove: [] });

      await refused(
        datapath.writeMap(rules, { set: [3, 4, 5].map(entry), remove: [] }),
        'MAP_VALUE_INVALID',
        'policy_rules',
        '4 entries',
      );

      const there = await Promise.all(
        [1, 2, 3, 4, 5].map((n) => datapath.readMap(rules, Buffer.from(entry(n).key, 'hex'))),
      );
      assert.deepEqual(
        there.map((value) => value !== undefined),
        [true, true, false, false, false],
      );
      await discard(fixtureOf(), loaded);
    });
  });
}
