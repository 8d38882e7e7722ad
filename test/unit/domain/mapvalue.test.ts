import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { isArrayKind, isPerCpuKind } from '../../../src/domain/map-types.js';
import { encodeMapArgs, type MapShape, perCpuValueSize } from '../../../src/domain/mapvalue.js';
import type { MapValue } from '../../../src/domain/program.js';
import { AgentError } from '../../../src/errors.js';
import { repeats } from '../../support/repeats.js';

const HASH = 1;
const ARRAY = 2;
const PERCPU_HASH = 5;
const PERCPU_ARRAY = 6;
const LPM_TRIE = 11;

function map(shape: Partial<MapShape> = {}): MapShape {
  return { name: 'limits', type: HASH, keySize: 4, valueSize: 8, maxEntries: 16, ...shape };
}

/** Bytes of a value in a map with values of this size. */
function value(size: number, scalar: MapValue): string | undefined {
  const args = { name: 'limits', args: [{ key: 0, value: scalar }] };
  return encodeMapArgs(map({ valueSize: size }), args, 'map_args.0')[0]?.value;
}

function key(shape: Partial<MapShape>, scalar: MapValue): string | undefined {
  return encodeMapArgs(map(shape), { name: 'limits', args: [{ key: scalar, value: 0 }] }, 'map_args.0')[0]?.key;
}

function refused(encode: () => unknown, path: string, message: RegExp): void {
  assert.throws(encode, (error) => {
    assert.ok(error instanceof AgentError);
    assert.deepEqual([error.code, error.path], ['MAP_VALUE_INVALID', path]);
    assert.match(error.message, message);
    return true;
  });
}

describe('integers', () => {
  const CASES: readonly (readonly [number, MapValue, string])[] = [
    [1, 255, 'ff'],
    [2, 53, '3500'],
    [4, 1_000_000, '40420f00'],
    [8, 1, '0100000000000000'],
    [8, '18446744073709551615', 'ffffffffffffffff'],
    [8, '0xdeadbeefcafe', 'fecaefbeadde0000'],
    [4, '0x0A', '0a000000'],
    [4, '7', '07000000'],
    [1, -1, 'ff'],
    [2, '-2', 'feff'],
    [8, -1, 'ffffffffffffffff'],
    [8, '-9223372036854775808', '0000000000000080'],
  ];
  for (const [size, scalar, bytes] of CASES) {
    test(`${JSON.stringify(scalar)} in ${size} bytes is ${bytes}`, () => {
      assert.equal(value(size, scalar), bytes);
    });
  }

  test('are decoded to the same number, whatever the size', () => {
    const size = fc.constantFrom(1, 2, 4, 8);
    const sized = size.chain((bytes) =>
      fc.tuple(fc.constant(bytes), fc.bigInt(-(1n << BigInt(bytes * 8 - 1)), (1n << BigInt(bytes * 8)) - 1n)),
    );
    fc.assert(
      fc.property(sized, ([bytes, integer]) => {
        const raw = Buffer.from(value(bytes, String(integer)) ?? '', 'hex');
        assert.equal(raw.length, bytes);
        const read = BigInt(`0x${raw.reverse().toString('hex')}`);
        assert.equal(read, BigInt.asUintN(bytes * 8, integer));
      }),
    );
  });

  const REFUSED: readonly (readonly [number, MapValue, RegExp])[] = [
    [1, 256, /256 does not fit a value of limits, which has 1 byte: expected -128 to 255/],
    [2, 65536, /expected -32768 to 65535/],
    [2, -32769, /expected -32768 to 65535/],
    [4, 4294967296, /which has 4 bytes: expected -2147483648 to 4294967295/],
    [8, '18446744073709551616', /expected -9223372036854775808 to 18446744073709551615/],
    [8, 2 ** 53, /too large to be exact as a JSON number; give a value of limits as a string/],
    [4, 1.5, /Expected an integer or an IPv4 address as a value of limits, which has 4 bytes; got 1.5/],
    [8, Number.NaN, /Expected an integer/],
    [8, 'ten', /got "ten"/],
    [8, '', /got ""/],
    [8, ' 7', /got " 7"/],
    [8, '1e3', /got "1e3"/],
    [8, '0x', /got "0x"/],
    [8, '-0x1', /got "-0x1"/],
  ];
  for (const [size, scalar, message] of REFUSED) {
    test(`${JSON.stringify(scalar)} in ${size} bytes is refused, not truncated`, () => {
      refused(() => value(size, scalar), 'map_args.0.args.0.value', message);
    });
  }
});

describe('bytes', () => {
  test('are in memory order if no integer has that size', () => {
    assert.equal(value(3, '0x010203'), '010203');
    assert.equal(value(12, '0x000102030405060708090a0B'), '000102030405060708090a0b');
  });

  test('of a wrong length are refused', () => {
    const message = /Expected 0x and 24 hexadecimal digits as a value of limits, which has 12 bytes; got "0x01"/;
    refused(() => value(12, '0x01'), 'map_args.0.args.0.value', message);
  });

  test('cannot be given as a number', () => {
    refused(() => value(16, 5), 'map_args.0.args.0.value', /32 hexadecimal digits or an IPv6 address .* got 5/);
  });
});

describe('addresses', () => {
  test('are in network order', () => {
    assert.equal(value(4, '192.0.2.1'), 'c0000201');
    assert.equal(value(6, '02:00:5E:10:00:ff'), '02005e1000ff');
    assert.equal(value(16, '2001:db8::1'), '20010db8000000000000000000000001');
    assert.equal(value(16, '::'), '00'.repeat(16));
    assert.equal(value(16, '1:2:3:4:5:6:7:8'), '00010002000300040005000600070008');
    assert.equal(value(16, 'fe80::'), `fe80${'00'.repeat(14)}`);
    assert.equal(value(16, '::ffff:192.0.2.1'), '00000000000000000000ffffc0000201');
  });

  for (const text of ['192.0.2', '192.0.2.256', '192.0.02.1', '192.0.2.1.1', '192.0.2.x']) {
    test(`${text} is not an IPv4 address`, () =>
      refused(() => value(4, text), 'map_args.0.args.0.value', /IPv4 address/));
  }

  for (const text of [
    '1:2:3',
    '1::2::3',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    ':1::',
    '12345::',
    'fe80::1%eth0',
    '1.2.3.4::',
  ]) {
    test(`${text} is not an IPv6 address`, () =>
      refused(() => value(16, text), 'map_args.0.args.0.value', /IPv6 address/));
  }

  test('of IPv6 are recognised exactly where Node recognises them', () => {
    const group = fc.constantFrom('', '0', '1', 'ffff', '12345', 'g', '1.2.3.4');
    const text = fc.array(group, { minLength: 1, maxLength: 9 }).map((groups) => groups.join(':'));
    const examples: [string][] = [['::1'], ['1::'], ['::'], ['1:2:3:4:5:6:7::']];
    fc.assert(
      fc.property(text, (candidate) => {
        const accepted = (() => {
          try {
            return value(16, candidate) !== undefined;
          } catch {
            return false;
          }
        })();
        assert.equal(accepted, isIPv6(candidate), candidate);
      }),
      { numRuns: repeats({ usual: 1000, full: 5000 }), examples },
    );
  });

  test('fit only values of their own size', () => {
    refused(() => value(8, '192.0.2.1'), 'map_args.0.args.0.value', /Expected an integer/);
  });
});

describe('keys of an LPM trie', () => {
  const IPV4 = { type: LPM_TRIE, keySize: 8 };
  const IPV6 = { type: LPM_TRIE, keySize: 20 };

  test('are the prefix length in host order and the address', () => {
    assert.equal(key(IPV4, '10.1.0.0/16'), '100000000a010000');
    assert.equal(key(IPV4, '0.0.0.0/0'), '0000000000000000');
    assert.equal(key(IPV6, '2001:db8::/32'), `2000000020010db8${'00'.repeat(12)}`);
  });

  test('can be given byte by byte, for tries that are not about addresses', () => {
    assert.equal(key({ type: LPM_TRIE, keySize: 6 }, '0x100000000102'), '100000000102');
  });

  test('are refused without a length, with too long a length, and with the wrong address family', () => {
    refused(() => key(IPV4, '10.0.0.1'), 'map_args.0.args.0.key', /an IPv4 prefix like 10.0.0.0\/8/);
    refused(() => key(IPV4, 10), 'map_args.0.args.0.key', /an IPv4 prefix/);
    refused(() => key(IPV4, '10.0.0.0/33'), 'map_args.0.args.0.key', /more than 32/);
    refused(() => key(IPV4, '2001:db8::/32'), 'map_args.0.args.0.key', /an IPv4 prefix/);
    refused(() => key(IPV6, '10.0.0.0/8'), 'map_args.0.args.0.key', /an IPv6 prefix like 2001:db8::\/32/);
  });
});

describe('a map as a whole', () => {
  test('reports the wrong entry', () => {
    const args = [
      { key: 1, value: 1 },
      { key: 70_000, value: 1 },
    ];
    const encode = () =>
      encodeMapArgs(map({ keySize: 2 }), { name: 'limits', args }, '0.bpf_programs.xdp_ingress.2.map_args.1');
    refused(encode, '0.bpf_programs.xdp_ingress.2.map_args.1.args.1.key', /70000 does not fit a key of limits/);
  });

  test('has no keys beyond its length if it is an array', () => {
    assert.equal(key({ type: ARRAY, maxEntries: 4 }, 3), '03000000');
    refused(() => key({ type: ARRAY, maxEntries: 4 }, 4), 'map_args.0.args.0.key', /keys go from 0 to 3/);
    refused(() => key({ type: PERCPU_ARRAY, maxEntries: 1 }, -1), 'map_args.0.args.0.key', /keys go from 0 to 0/);
  });

  test('accepts no more entries than it can hold', () => {
    const args = [1, 2, 3].map((n) => ({ key: n, value: n }));
    const encode = () => encodeMapArgs(map({ maxEntries: 2 }), { name: 'limits', args }, 'map_args.0');
    refused(encode, 'map_args.0.args', /limits holds at most 2 entries, got 3/);
  });
});

test('kinds of maps', () => {
  assert.deepEqual([HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY].filter(isArrayKind), [ARRAY, PERCPU_ARRAY]);
  assert.deepEqual([HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY].filter(isPerCpuKind), [PERCPU_HASH, PERCPU_ARRAY]);
});

test("one CPU's value takes a multiple of 8 bytes", () => {
  assert.deepEqual([1, 8, 9, 16].map(perCpuValueSize), [8, 8, 16, 16]);
});
