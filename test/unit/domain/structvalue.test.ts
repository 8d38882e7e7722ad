import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Field, Layout } from '../../../src/domain/layout.js';
import { isPerCpuKind } from '../../../src/domain/map-types.js';
import { encodeMapArgs, perCpuValueSize } from '../../../src/domain/mapvalue.js';
import type { MapValue } from '../../../src/domain/program.js';
import { encodeValue } from '../../../src/domain/structvalue.js';
import { AgentError } from '../../../src/errors.js';
import { repeats } from '../../support/repeats.js';

const PLACE = { path: 'value', what: 'a value of limits' };

function int(size: number, more: Partial<Layout & { kind: 'int' }> = {}): Layout {
  return { kind: 'int', size, signed: false, bool: false, network: false, ...more };
}

function encode(layout: Layout, value: MapValue): string {
  return encodeValue(layout, layout.size, value, PLACE).toString('hex');
}

function refused(layout: Layout, value: MapValue, path: string, message: RegExp): void {
  assert.throws(
    () => encode(layout, value),
    (error) => {
      assert.ok(error instanceof AgentError);
      assert.deepEqual([error.code, error.path], ['MAP_VALUE_INVALID', path]);
      assert.match(error.message, message);
      return true;
    },
  );
}

describe('a number of a known type', () => {
  test('has the range of its type', () => {
    assert.equal(encode(int(1), 255), 'ff');
    refused(int(1), -1, 'value', /-1 does not fit .* expected 0 to 255/);
    assert.equal(encode(int(1, { signed: true }), -1), 'ff');
    refused(int(1, { signed: true }), 128, 'value', /expected -128 to 127/);
  });

  test('is in network order if its type says so; an address always is', () => {
    assert.equal(encode(int(2, { network: true }), 80), '0050');
    assert.equal(encode(int(8, { network: true }), '0x0102'), '0000000000000102');
    assert.equal(encode(int(4, { network: true }), '10.0.0.1'), '0a000001');
    assert.equal(encode(int(4), '10.0.0.1'), '0a000001');
  });

  test('that is a bool is true or false', () => {
    const bool = int(1, { bool: true });
    assert.deepEqual(
      [true, false, 1, '0'].map((value) => encode(bool, value)),
      ['01', '00', '01', '00'],
    );
    refused(bool, 2, 'value', /expected 0 to 1/);
    refused(int(1), true, 'value', /Expected an integer .* got true/);
  });

  test('of an enum has names', () => {
    const values = new Map([
      ['DROP', -1n],
      ['constructor', 2n],
    ]);
    const layout: Layout = { kind: 'enum', size: 4, signed: true, network: false, values };
    assert.deepEqual(
      ['DROP', 'constructor', 7].map((value) => encode(layout, value)),
      ['ffffffff', '02000000', '07000000'],
    );
    refused(layout, 'PASS', 'value', /an integer or one of DROP, constructor/);
  });
});

describe('a struct', () => {
  const field = (name: string, bitOffset: number, layout: Layout, bits?: number): Field => ({
    name,
    bitOffset,
    layout,
    ...(bits !== undefined && { bits }),
  });
  const struct = (size: number, ...fields: Field[]): Layout => ({ kind: 'struct', size, name: 'struct s', fields });
  const halves = struct(4, field('low', 0, int(2)), field('high', 16, int(2)));
  const union: Layout = {
    kind: 'union',
    size: 4,
    name: 'a union',
    fields: [field('whole', 0, int(4)), field('small', 0, int(2)), field('', 0, halves)],
  };
  const lock: Layout = { kind: 'opaque', size: 4, what: 'struct bpf_spin_lock', kernel: true };

  test('is an object by field names, with zeros in the gaps', () => {
    assert.equal(encode(struct(8, field('a', 0, int(1)), field('b', 32, int(4))), { b: 2, a: 1 }), '0100000002000000');
  });

  test('has bit-fields, also across bytes', () => {
    const layout = struct(4, field('a', 0, int(4), 3), field('b', 3, int(4, { signed: true }), 13));
    assert.equal(encode(layout, { a: 5, b: -1 }), 'fdff0000');
    refused(layout, { a: 8, b: 0 }, 'value.a', /which has 3 bits: expected 0 to 7/);
    refused(layout, { a: 0, b: 4096 }, 'value.b', /13 bits: expected -4096 to 4095/);
  });

  test('must have every field, and no other', () => {
    const layout = struct(8, field('a', 0, int(4)), field('b', 32, int(4)));
    refused(layout, { a: 1 }, 'value.b', /b in a value of limits is missing/);
    refused(layout, { a: 1, b: 2, c: 3 }, 'value.c', /struct s has no field "c", only a, b/);
    refused(layout, { a: 1, b: 2, 'c.d': 3 }, 'value', /no field "c.d"/);
    refused(layout, JSON.parse('{"a":1,"b":2,"__proto__":3}') as MapValue, 'value.__proto__', /no field/);
    refused(layout, [1, 2], 'value', /Expected an object {a, b}, or 0x and 16 .* got a list of 2/);
  });

  test('leaves out what only the kernel writes', () => {
    const layout = struct(8, field('a', 0, int(4)), field('lock', 32, lock));
    assert.equal(encode(layout, { a: 1 }), '0100000000000000');
    refused(layout, { a: 1, lock: 0 }, 'value.lock', /only the kernel writes/);
  });

  test('with a union takes exactly one of its members, and the rest is 0', () => {
    const named = struct(4, field('u', 0, union));
    assert.equal(encode(named, { u: '0x01020304' }), '01020304');
    assert.equal(encode(named, { u: '10.0.0.1' }), '0a000001');
    assert.equal(encode(named, { u: { small: 1 } }), '01000000');
    refused(named, { u: {} }, 'value.u', /give whole, or small, or low and high.* none of them is given/);
    refused(named, { u: { whole: 1, small: 1 } }, 'value.u', /more than one of them is given/);
    refused(named, { u: { low: 1 } }, 'value.u.high', /high .* is missing/);
    refused(named, { u: { other: 1 } }, 'value.u.other', /has no field "other", only whole, small, low, high/);
    refused(named, { u: 5 }, 'value.u', /an object with one of {whole, small, low, high}/);
  });

  test('with a union without name has its members as C has them', () => {
    const layout = struct(8, field('a', 0, int(4)), field('', 32, union));
    assert.equal(encode(layout, { a: 1, low: 2, high: 3 }), '0100000002000300');
    assert.equal(encode(layout, { a: 1, small: 7 }), '0100000007000000');
    assert.equal(encode(layout, '0x0102030405060708'), '0102030405060708');
    refused(layout, { a: 1 }, 'value', /Of struct s in a value.* give whole, or small/);
    refused(layout, { a: 1, whole: 1, high: 2 }, 'value', /more than one of them is given/);
  });

  test('within a struct or an array is reported by its path', () => {
    const inner = struct(2, field('port', 0, int(2)));
    const layout = struct(4, field('ports', 0, { kind: 'array', size: 4, length: 2, element: inner, text: false }));
    assert.equal(encode(layout, { ports: [{ port: 1 }, { port: 2 }] }), '01000200');
    refused(
      layout,
      { ports: [{ port: 1 }, { port: 65536 }] },
      'value.ports.1.port',
      /port in element 1 of ports in a value/,
    );
  });
});

describe('any value of a payload', () => {
  const leaf = fc.oneof(
    fc.integer(),
    fc.double(),
    fc.bigInt().map(String),
    fc.boolean(),
    fc.string(),
    fc.constantFrom('10.0.0.1', '::1', '02:00:5e:00:00:01', '10.0.0.0/8', '0x01020304', 'A'),
  );
  const { value } = fc.letrec<{ value: MapValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom('a', 'b', 'c', '__proto__', 'toString'), tie('value'), { maxKeys: 3 }),
    ) as fc.Arbitrary<MapValue>,
  }));
  const number = fc.record({
    size: fc.constantFrom(1, 2, 4, 8, 16),
    signed: fc.boolean(),
    bool: fc.boolean(),
    network: fc.boolean(),
  });
  const { layout } = fc.letrec<{ layout: Layout }>((tie) => ({
    layout: fc.oneof(
      { maxDepth: 3 },
      number.map((more): Layout => ({ kind: 'int', ...more })),
      fc
        .constantFrom(1, 4, 8)
        .map((size): Layout => ({ kind: 'enum', size, signed: false, network: false, values: new Map([['A', 1n]]) })),
      fc.nat(40).map((size): Layout => ({ kind: 'opaque', size, what: 'a pointer', kernel: size % 5 === 0 })),
      fc
        .tuple(fc.nat(3), tie('layout'), fc.boolean())
        .map(
          ([length, element, text]): Layout => ({ kind: 'array', size: length * element.size, length, element, text }),
        ),
      fc.array(tie('layout'), { maxLength: 3 }).map((members): Layout => {
        let offset = 0;
        const fields = members.map((member, index): Field => {
          const bitOffset = offset * 8;
          offset += member.size;
          return { name: ['a', 'b', ''][index]!, bitOffset, layout: member };
        });
        return { kind: 'struct', size: offset, name: 'struct s', fields };
      }),
    ),
  }));
  const size = fc.nat(24);
  const shape = fc.record({
    name: fc.constant('m'),
    type: fc.constantFrom(1, 1, 1, 1, 1, 5, 5, 9, 9, 10, 2, 3, 6, 11, 14, 16, 25, 99),
    keySize: size,
    valueSize: size,
    maxEntries: fc.integer({ min: 2, max: 8 }),
    cpus: fc.integer({ min: 1, max: 3 }),
    key: fc.option(layout, { nil: undefined }),
    value: fc.option(layout, { nil: undefined }),
    exact: fc.constantFrom(true, true, true, false),
  });

  const bytes = (length: number) =>
    fc.uint8Array({ minLength: length, maxLength: length }).map((raw) => `0x${Buffer.from(raw).toString('hex')}`);

  /** Possible values for a layout, as people write them. */
  function fitting(of: Layout): fc.Arbitrary<MapValue> {
    switch (of.kind) {
      case 'int':
        return of.size > 8 ? bytes(of.size) : fc.nat(of.bool ? 1 : 127);
      case 'enum':
        return fc.constantFrom<MapValue>('A', 1);
      case 'opaque':
        return bytes(of.size);
      case 'array':
        return fc.oneof(bytes(of.size), fc.tuple(...Array.from({ length: of.length }, () => fitting(of.element))));
      case 'struct': {
        if (of.fields.some(({ name }) => name === '')) return bytes(of.size);
        const given = of.fields.filter(({ layout: inner }) => inner.kind !== 'opaque' || !inner.kernel);
        return fc.record(Object.fromEntries(given.map(({ name, layout: inner }) => [name, fitting(inner)])));
      }
      case 'union':
        return fc.oneof(
          bytes(of.size),
          ...of.fields.map(({ name, layout: inner }) => fc.record({ [name]: fitting(inner) })),
        );
    }
  }

  /** A map, and arguments that usually fit it. */
  const attempt = shape.chain(({ exact, key, value: valueLayout, ...rest }) => {
    const map = {
      ...rest,
      ...(key !== undefined && { key, ...(exact && { keySize: key.size }) }),
      ...(valueLayout !== undefined && { value: valueLayout, ...(exact && { valueSize: valueLayout.size }) }),
    };
    const some = (of: Layout | undefined) =>
      of === undefined ? value : fc.oneof({ arbitrary: fitting(of), weight: 4 }, value);
    return fc.record({
      map: fc.constant(map),
      args: fc.array(fc.record({ key: some(map.key), value: some(map.value) }), { maxLength: 3 }),
    });
  });

  test('becomes bytes of the right size, or is refused with its path', () => {
    const seen = { encoded: 0, refused: 0 };
    fc.assert(
      fc.property(attempt, ({ map, args }) => {
        try {
          for (const entry of encodeMapArgs(map, { name: 'm', args }, 'map_args.0')) {
            seen.encoded++;
            assert.equal(entry.key.length, map.keySize * 2);
            const perCpu = perCpuValueSize(map.valueSize) * map.cpus;
            const sizes = [map.valueSize, ...(isPerCpuKind(map.type) ? [perCpu] : [])];
            assert.ok(sizes.includes(entry.value.length / 2), `${entry.value.length / 2} is not ${sizes.join(' or ')}`);
          }
        } catch (error) {
          seen.refused++;
          assert.ok(error instanceof AgentError, String(error));
          assert.equal(error.code, 'MAP_VALUE_INVALID');
          assert.match(error.path ?? '', /^map_args\.0\.(name|args(\.[0-9]+\.(key|value)(\.[A-Za-z0-9_]+)*)?)$/);
        }
      }),
      { numRuns: repeats({ usual: 1200, full: 3000 }) },
    );
    assert.ok(seen.encoded > 100 && seen.refused > 100, JSON.stringify(seen));
  });
});
