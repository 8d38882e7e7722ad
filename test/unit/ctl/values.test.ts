import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InvalidArgumentError } from 'commander';
import { parseCount, parseDuration, parseGeneration, parseMoment, parseServers } from '../../../src/ctl/values.js';

describe('values of options', () => {
  it('durations have a unit, which is seconds if none is given', () => {
    assert.deepEqual(['60s', '500ms', '1.5m', '2', '1h'].map(parseDuration), [60_000, 500, 90_000, 2_000, 3_600_000]);
  });

  it('a moment is a time or a duration from now', () => {
    const before = Date.now();
    const fromNow = parseMoment('5m').getTime() - before;

    assert.equal(parseMoment('2026-01-31T12:00:00+02:00').toISOString(), '2026-01-31T10:00:00.000Z');
    assert.ok(fromNow >= 300_000 && fromNow <= Date.now() - before + 300_000);
  });

  it('counts start at 1, generations at 0', () => {
    assert.equal(parseCount('20'), 20);
    assert.equal(parseGeneration('0'), 0);
    assert.equal(parseGeneration('9007199254740991'), Number.MAX_SAFE_INTEGER);
  });

  it('servers are joined by commas', () => {
    assert.deepEqual(parseServers('nats://a:4222, nats://b:4222'), ['nats://a:4222', 'nats://b:4222']);
  });

  for (const [parse, text] of [
    [parseDuration, ''],
    [parseDuration, 'soon'],
    [parseDuration, '0s'],
    [parseDuration, '-1s'],
    [parseDuration, '1000h'],
    [parseCount, '0'],
    [parseCount, '1.5'],
    [parseGeneration, '9007199254740992'],
    [parseGeneration, '-1'],
    [parseMoment, '2026-13-01T00:00:00Z'],
    [parseMoment, '2026-01-31'],
    [parseServers, ' , '],
  ] as const) {
    it(`${parse.name} refuses "${text}"`, () => {
      assert.throws(() => parse(text), InvalidArgumentError);
    });
  }
});
