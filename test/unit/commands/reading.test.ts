import assert from 'node:assert/strict';
import { it } from 'node:test';
import { keepingParser } from '../../../src/commands/reading.js';
import { parseCommand } from '../../../src/messages/parse.js';
import { bytes, HOST, onXdp, program } from '../messages/payloads.js';

/** A parser that keeps, and how often it has really read. */
function counted(): { parse: typeof parseCommand; reads: () => number } {
  let reads = 0;
  const parse = keepingParser((...given) => {
    reads += 1;
    return parseCommand(...given);
  });
  return { parse, reads: () => reads };
}

it('a body that comes again is read once, and means the same', () => {
  const { parse, reads } = counted();
  const body = bytes(onXdp(program()));

  const [first, again] = [parse('deploy', body, HOST), parse('deploy', Uint8Array.from(body), HOST)];

  assert.deepEqual(first, parseCommand('deploy', body, HOST));
  assert.equal(again, first);
  assert.equal(reads(), 1);
});

it('other bytes, another verb and bytes that were overwritten are read anew', () => {
  const { parse, reads } = counted();
  const body = bytes(onXdp(program()));
  const bodies = [body, bytes(onXdp(program({ seq_id: 9 }))), Buffer.concat([body, Buffer.from(' ')])];

  for (const one of bodies) assert.deepEqual(parse('deploy', one, HOST), parseCommand('deploy', one, HOST));
  assert.equal(parse('add', body, HOST).verb, 'add');
  assert.equal(reads(), 4);

  const reused = Buffer.from(bodies[1]!);
  parse('deploy', reused, HOST);
  reused.set(Buffer.from('[]'));
  reused.fill(' ', 2);
  assert.deepEqual(parse('deploy', reused, HOST), parseCommand('deploy', bytes([]), HOST));
});

it('a refused body is refused again', () => {
  const { parse, reads } = counted();
  for (let time = 0; time < 2; time++)
    assert.throws(() => parse('deploy', bytes([{}]), HOST), { code: 'INVALID_FIELD' });
  assert.throws(() => parse('deploy', bytes(onXdp(program())), 'elsewhere'));
  assert.equal(reads(), 3);
});

it('of many bodies only the last ones are kept, and none that is very long', () => {
  const { parse, reads } = counted();
  const bodies = Array.from({ length: 10 }, (_, index) => bytes(onXdp(program({ seq_id: index }))));
  for (const body of bodies) parse('deploy', body, HOST);
  for (const body of bodies.slice(-4)) parse('deploy', body, HOST);
  assert.equal(reads(), 10);
  parse('deploy', bodies[0]!, HOST);
  assert.equal(reads(), 11);

  const long = Buffer.concat([bodies[9]!, Buffer.alloc(300_000, ' ')]);
  for (let time = 0; time < 2; time++) parse('deploy', long, HOST);
  assert.equal(reads(), 13);
});
