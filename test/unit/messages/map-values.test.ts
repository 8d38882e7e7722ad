import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCommand } from '../../../src/messages/parse.js';
import { HOST, onXdp, program } from './payloads.js';
import { P0, places, refused } from './refused.js';

/* Keys and values of `map_args` that a payload may have. Whether they fit a map is only known with the map. */

const bodyWith = (value: unknown) =>
  Buffer.from(JSON.stringify(onXdp(program({ map_args: [{ name: 'm', args: [{ key: 0, value }] }] }))));

function parsed(value: unknown): unknown {
  const command = parseCommand('deploy', bodyWith(value), HOST);
  return command.verb === 'delete' ? undefined : command.chains[0]?.programs[0]?.mapArgs[0]?.args[0]?.value;
}

describe('a value of map_args', () => {
  for (const value of [7, -1, '0x07', '10.0.0.0/8', true, [], [1, 'a', [false]], { a: { b: [1, { c: 'd' }] } }]) {
    test(`may be ${JSON.stringify(value)}, and stays unchanged`, () => assert.deepEqual(parsed(value), value));
  }

  const REFUSED: readonly (readonly [unknown, string])[] = [
    [null, ''],
    [1.5, ''],
    ['', ''],
    ['line\nbreak', ''],
    [{ rate: null }, '.rate'],
    [[1, 2.5], '.1'],
    [{ limits: [{ rate: 1 }, { rate: 0.5 }] }, '.limits.1.rate'],
    [{ 'a.b': 1 }, ''],
    [{ 'no name': 1 }, ''],
  ];
  for (const [value, where] of REFUSED) {
    test(`cannot be ${JSON.stringify(value)}, and the fault has its path`, () => {
      const faults = refused('deploy', bodyWith(value));

      assert.deepEqual(places(faults), [`INVALID_FIELD ${P0}.map_args.0.args.0.value${where}`]);
      assert.match(faults[0]!.message, /^Expected .* to be an integer of at most 2\^53 - 1, a text/);
    });
  }
});
