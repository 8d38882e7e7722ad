import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Layout } from '../../../src/domain/layout.js';
import type { MapShape } from '../../../src/domain/mapvalue.js';
import { checkMonitors, numberIn, rawKeyInWords, sameMonitors, targetOf } from '../../../src/domain/monitor.js';
import type { MonitoredMap } from '../../../src/domain/program.js';

const int = (size: number, { signed = false, network = false } = {}): Layout => ({
  kind: 'int',
  size,
  signed,
  bool: false,
  network,
});
const VALUE: Layout = {
  kind: 'struct',
  size: 24,
  name: 'struct flow',
  fields: [
    { name: 'bytes', bitOffset: 0, layout: int(8) },
    { name: 'port', bitOffset: 64, layout: int(2, { network: true }) },
    { name: 'flags', bitOffset: 80, bits: 3, layout: int(4) },
    { name: 'by_cpu', bitOffset: 128, layout: { kind: 'array', size: 8, length: 2, element: int(4), text: false } },
  ],
};
const FLOWS: MapShape = {
  name: 'flows',
  type: 1,
  keySize: 2,
  valueSize: 24,
  maxEntries: 10,
  key: int(2),
  value: VALUE,
};
const COUNTS: MapShape = { name: 'counts', type: 2, keySize: 4, valueSize: 8, maxEntries: 4 };

const asked = (changes: Partial<MonitoredMap> = {}): MonitoredMap => ({
  name: 'flows',
  key: 80,
  aggregator: 'scalar',
  field: '',
  labels: {},
  ...changes,
});
const refusal = (path: string, message: RegExp) => ({ code: 'MAP_VALUE_INVALID', path: `at.${path}`, message });

describe('what is read of a monitored map', () => {
  for (const [field, number] of [
    ['bytes', { offset: 0, size: 8, signed: false, network: false }],
    ['port', { offset: 8, size: 2, signed: false, network: true }],
    ['by_cpu.1', { offset: 20, size: 4, signed: false, network: false }],
  ] as const) {
    it(`can be the field ${field}`, () => {
      assert.deepEqual(targetOf({ map: FLOWS }, asked({ field }), 'at'), {
        key: Buffer.from([80, 0]),
        number,
        isMade: false,
      });
    });
  }

  it('is the whole value if that is a number, by its type or by its size', () => {
    const number = { offset: 0, size: 8, signed: false, network: false };
    assert.deepEqual(targetOf({ map: COUNTS }, asked({ key: '*' }), 'at'), { key: undefined, number, isMade: false });
    const typed = { ...COUNTS, value: int(8, { signed: true }) };
    assert.deepEqual(targetOf({ map: typed }, asked({ key: '*' }), 'at').number, { ...number, signed: true });
  });

  it('needs its key created in hash maps of numbers, and in no others', () => {
    const hash = { ...COUNTS, type: 1 };
    const isMade = (map: MapShape, changes: Partial<MonitoredMap>) => targetOf({ map }, asked(changes), 'at').isMade;
    assert.deepEqual(
      [
        isMade(hash, { key: 1 }),
        isMade(hash, { key: '*' }),
        isMade(COUNTS, { key: 1 }),
        isMade(FLOWS, { field: 'bytes' }),
      ],
      [true, false, false, false],
    );
  });

  for (const [what, map, changes, path, message] of [
    [
      'a struct without a field',
      FLOWS,
      {},
      'field',
      /24 bytes; name one of its numbers in field: bytes, port, by_cpu$/,
    ],
    ['a field that is an array', FLOWS, { field: 'by_cpu' }, 'field', /0 to 1/],
    [
      'a field that does not exist',
      FLOWS,
      { field: 'packets' },
      'field',
      /no number packets in a value of flows; it has bytes/,
    ],
    ['a field of a few bits', FLOWS, { field: 'flags' }, 'field', /no number flags/],
    ['an index beyond the end', FLOWS, { field: 'by_cpu.2' }, 'field', /no number 2/],
    ['a field of a number', COUNTS, { field: 'x' }, 'field', /no known fields/],
    ['a key of another type', FLOWS, { key: 70000, field: 'bytes' }, 'key', /70000/],
    ['a key beyond an array', COUNTS, { key: 4 }, 'key', /0 to 3/],
    ['bytes of which nothing is known', { ...COUNTS, valueSize: 16 }, { key: 0 }, 'field', /16 bytes/],
    ['a map of programs', { ...COUNTS, type: 3 }, { key: 0 }, 'name', /map type 3/],
  ] as const) {
    it(`cannot be ${what}`, () => {
      assert.throws(() => targetOf({ map }, asked(changes), 'at'), refusal(path, message));
    });
  }

  it('must be a map of the program', () => {
    const missing = { code: 'MAP_NOT_FOUND', path: '0.monitor_maps.1.name' };
    const monitors = [asked({ field: 'bytes' }), asked({ name: 'none' })];
    assert.throws(() => checkMonitors([FLOWS], monitors, '0.'), missing);
    assert.doesNotThrow(() => checkMonitors([FLOWS], undefined, '0.'));
  });

  it('is compared by the request', () => {
    assert.ok(sameMonitors([asked()], [asked()]) && sameMonitors(undefined, []));
    assert.ok(!sameMonitors([asked()], [asked({ aggregator: 'avg' })]));
  });
});

describe('l3afd defect 23: fixed 8-byte buffers whatever the sizes, per-CPU read as 0', () => {
  const place = (size: number, changes = {}) => ({ offset: 0, size, signed: false, network: false, ...changes });

  for (const [bytes, number, expected] of [
    ['ff', place(1), 255],
    ['ff', place(1, { signed: true }), -1],
    ['0102', place(2), 0x0201],
    ['0102', place(2, { network: true }), 0x0102],
    ['feffffff', place(4, { signed: true }), -2],
    ['0100000000000000', place(8), 1],
    ['0000000000000001', place(8, { network: true }), 1],
    ['ffffffffffff1f00', place(8), Number.MAX_SAFE_INTEGER],
    ['feffffffffffffff', place(8, { signed: true }), -2],
    ['ffffffffffffffff', place(8), 2 ** 64],
    ['00000000aabb0700', place(2, { offset: 6 }), 7],
  ] as const) {
    it(`${bytes} is ${expected}`, () => {
      const value = Buffer.from(bytes, 'hex');
      assert.equal(numberIn(value, value.length, number), expected);
    });
  }

  it('the values of all CPUs are summed', () => {
    const value = Buffer.from('01000000000000000200000000000000f0000000ffffffff', 'hex');
    assert.equal(numberIn(value, 8, place(4)), 1 + 2 + 0xf0);
    assert.equal(numberIn(value, 8, place(1, { offset: 4, signed: true })), -1);
  });
});

describe('a key that was found is shown', () => {
  const key = (layout: Layout | undefined, keySize: number): MapShape => ({
    ...COUNTS,
    keySize,
    ...(layout !== undefined && { key: layout }),
  });
  const text: Layout = { kind: 'array', size: 4, length: 4, element: int(1), text: true };
  const pair: Layout = {
    kind: 'struct',
    size: 4,
    name: 'struct pair',
    fields: [
      { name: 'a', bitOffset: 0, layout: int(2) },
      { name: 'b', bitOffset: 16, layout: int(2, { network: true }) },
    ],
  };

  for (const [what, map, bytes, expected] of [
    ['as a number', key(int(2), 2), '5000', '80'],
    ['as a number by its size', key(undefined, 4), '01000000', '1'],
    ['as a text', key(text, 4), '61620000', 'ab'],
    ['as bytes where a text is none', key(text, 4), '61010000', '0x61010000'],
    ['by its fields', key(pair, 4), '01000002', '{"a":1,"b":2}'],
    ['as bytes', key(undefined, 3), '010203', '0x010203'],
  ] as const) {
    it(what, () => assert.equal(rawKeyInWords(map, Buffer.from(bytes, 'hex')), expected));
  }
});
