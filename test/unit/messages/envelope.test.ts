import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RefusedError } from '../../../src/errors.js';
import { parseEnvelope, type RawEnvelope } from '../../../src/messages/envelope.js';

function raw(headers: Partial<RawEnvelope> = {}): RawEnvelope {
  return { id: 'cmd-1', gen: undefined, prevGen: undefined, expires: undefined, ...headers };
}

describe("a command's headers", () => {
  it('may all be absent', () => {
    assert.deepEqual(parseEnvelope(raw()), { id: 'cmd-1', gen: undefined, prevGen: undefined, expires: undefined });
  });

  it('become numbers and a date', () => {
    const envelope = parseEnvelope(
      raw({ gen: '9007199254740991', prevGen: '6', expires: '2026-01-31T12:00:00.5+02:00' }),
    );

    assert.deepEqual(envelope, {
      id: 'cmd-1',
      gen: Number.MAX_SAFE_INTEGER,
      prevGen: 6,
      expires: new Date('2026-01-31T10:00:00.500Z'),
    });
  });

  it('may say that generation 1 builds on nothing', () => {
    assert.equal(parseEnvelope(raw({ gen: '1', prevGen: '0' })).prevGen, 0);
  });

  it('accept the id that a message without one gets', () => {
    assert.equal(parseEnvelope(raw({ id: 'L3AF_CMD:42' })).id, 'L3AF_CMD:42');
  });

  for (const [headers, words] of [
    [{ gen: '0' }, /L3AF-Gen .* got "0"/],
    [{ gen: '-1' }, /L3AF-Gen/],
    [{ gen: '1.5' }, /L3AF-Gen/],
    [{ gen: '007' }, /L3AF-Gen/],
    [{ gen: '0x10' }, /L3AF-Gen/],
    [{ gen: '9007199254740992' }, /2\^53 - 1/],
    [{ gen: '' }, /L3AF-Gen/],
    [{ gen: '5', prevGen: 'four' }, /L3AF-Prev-Gen/],
    [{ gen: '5', prevGen: '5' }, /smaller than L3AF-Gen \(5\)/],
    [{ prevGen: '5' }, /L3AF-Gen to be present/],
    [{ expires: 'tomorrow' }, /RFC 3339/],
    [{ expires: '2026-02-30T00:00:00Z' }, /L3AF-Expires/],
    [{ expires: '2026-01-31T12:00:00' }, /L3AF-Expires/],
    [{ id: '' }, /Nats-Msg-Id/],
    [{ id: 'x'.repeat(257) }, /Nats-Msg-Id/],
    [{ id: 'a\u0007' }, /Nats-Msg-Id/],
  ] as const) {
    it(`are refused: ${JSON.stringify(headers).slice(0, 60)}`, () => {
      assert.throws(
        () => parseEnvelope(raw(headers)),
        (error) => error instanceof RefusedError && error.code === 'INVALID_FIELD' && words.test(error.message),
      );
    });
  }

  it('are refused with everything that is wrong with them', () => {
    assert.throws(
      () => parseEnvelope({ id: '', gen: 'x', prevGen: 'y', expires: 'z' }),
      (error) => error instanceof RefusedError && error.faults.length === 4,
    );
  });
});
