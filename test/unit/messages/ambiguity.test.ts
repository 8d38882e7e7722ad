import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ambiguitiesIn } from '../../../src/messages/ambiguity.js';

const paths = (text: string) => ambiguitiesIn(text).map(({ path = '' }) => path);

describe('a JSON text is ambiguous', () => {
  for (const [text, path] of [
    ['[{"a":1,"a":1}]', '0.a'],
    ['[{"bpf_programs":{"xdp_ingress":[1],"tc_ingress":[],"xdp_ingress":[]}}]', '0.bpf_programs.xdp_ingress'],
    ['[0,{"iface":"a","\\u0069face":"b"}]', '1.iface'],
    ['{"a":{"b":[[{"c":1},{"c":1,"d":{},"c":2}]]}}', 'a.b.0.1.c'],
    ['{"a":"}\\"{","a":1}', 'a'],
  ] as const) {
    it(`if a key is there twice: ${text}`, () => assert.deepEqual(paths(text), [path]));
  }

  it('if it has the key __proto__, wherever', () => {
    assert.deepEqual(paths('[{"map_args":[{"value":{"__proto__":1}}]}]'), ['0.map_args.0.value.__proto__']);
  });

  for (const number of [
    '9007199254740993',
    '1.0000000000000000001',
    '1e400',
    '-18446744073709551615',
    '0.1234567890123456789',
  ]) {
    it(`if a number loses digits: ${number}`, () => assert.deepEqual(paths(`[{"key":[${number}]}]`), ['0.key.0']));
  }
});

describe('a JSON text is not ambiguous', () => {
  for (const text of [
    '1e2',
    '[1.0, -0, 0.10, 1E+2, 9007199254740992, 1e21, 5e-324, 0e9]',
    '[{"a":{"a":{"a":[{"a":1},{"a":1}]}}}]',
    ' { "a" : "a, a" , "b" : null } ',
    '""',
  ]) {
    it(`as ${text}`, () => assert.deepEqual(ambiguitiesIn(text), []));
  }

  it('if JSON.stringify has written it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        fc.pre(!text.includes('__proto__'));
        assert.deepEqual(ambiguitiesIn(JSON.stringify(JSON.parse(text), null, 2)), []);
      }),
    );
  });

  it('whatever its length and depth', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    assert.deepEqual(ambiguitiesIn(deep), []);
    assert.deepEqual(ambiguitiesIn(`"${'x'.repeat(1_000_000)}"`), []);
  });
});
