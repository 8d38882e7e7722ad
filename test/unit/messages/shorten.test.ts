import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Acknowledgement, acknowledgementSchema } from '../../../src/messages/ack.js';
import { shortened } from '../../../src/messages/shorten.js';

/** Enough for an answer with only its verdict. */
const LEAST_BYTES = 1500;

const textArbitrary = fc.integer({ min: 0, max: 3000 }).map((length) => 'ü"'.repeat(length / 2));
const ackArbitrary = fc
  .record({
    message: textArbitrary,
    errors: fc.array(fc.record({ code: fc.constant('INTERNAL' as const), message: textArbitrary }), { maxLength: 90 }),
    names: fc.array(textArbitrary, { maxLength: 90 }),
  })
  .map(
    ({ message, errors, names }): Acknowledgement => ({
      id: 'c1',
      host: 'web1',
      verb: 'deploy',
      seq: 7,
      status: 'failed',
      code: 'INTERNAL',
      message,
      errors,
      programs: names.map((name) => ({
        iface: 'eth0',
        direction: 'ingress',
        name,
        version: '1.0',
        result: 'failed',
      })),
      received_at: '2026-01-01T00:00:00Z',
      finished_at: '2026-01-01T00:00:01Z',
      duration_ms: 1000,
    }),
  );

test('a shortened acknowledgement fits, is still valid, and keeps its verdict', () => {
  fc.assert(
    fc.property(ackArbitrary, fc.integer({ min: LEAST_BYTES, max: 100_000 }), (ack, maxBytes) => {
      const short = shortened(ack, maxBytes);
      assert.ok(Buffer.byteLength(JSON.stringify(short)) <= maxBytes);
      assert.ok(acknowledgementSchema.safeParse(short).success);
      assert.deepEqual([short.id, short.status, short.code], [ack.id, ack.status, ack.code]);
      if (short.programs.length < ack.programs.length) assert.match(short.message ?? '', /\(shortened/);
      if (Buffer.byteLength(JSON.stringify(ack)) <= maxBytes) assert.equal(short, ack);
    }),
  );
});
