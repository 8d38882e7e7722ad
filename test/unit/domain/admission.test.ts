import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type AdmissionState, type Envelope, refusalOf } from '../../../src/domain/admission.js';
import type { Verb } from '../../../src/domain/command.js';
import { continuityOfMessage, continuityOfStream, type Mark } from '../../../src/domain/continuity.js';

const NOW = Date.parse('2026-01-01T12:00:00Z');

function codeOf(verb: Verb, envelope: Partial<Envelope>, standing: Partial<AdmissionState> = {}): string | undefined {
  const refusal = refusalOf(
    verb,
    { gen: undefined, prevGen: undefined, expires: undefined, ...envelope },
    { generation: undefined, awaitingDeploy: undefined, ...standing },
    NOW,
  );
  return refusal && `${refusal.status} ${refusal.code}`;
}

describe('admission of a command', () => {
  it('lets a command without headers pass', () => {
    assert.equal(codeOf('add', {}), undefined);
  });

  it('refuses a command that has expired by the server clock, to the millisecond', () => {
    assert.equal(codeOf('deploy', { expires: new Date(NOW) }), 'expired EXPIRED');
    assert.equal(codeOf('deploy', { expires: new Date(NOW + 1) }), undefined);
  });

  it('refuses a generation that is not newer than the applied one', () => {
    assert.equal(codeOf('deploy', { gen: 7 }, { generation: 7 }), 'superseded STALE_GENERATION');
    assert.equal(codeOf('deploy', { gen: 8 }, { generation: 7 }), undefined);
  });

  it('refuses a delta whose predecessor was not applied, but never a deploy', () => {
    assert.equal(codeOf('add', { gen: 9, prevGen: 8 }, { generation: 7 }), 'rejected GENERATION_GAP');
    assert.equal(codeOf('add', { gen: 9, prevGen: 8 }, { generation: 8 }), undefined);
    assert.equal(codeOf('deploy', { gen: 9, prevGen: 8 }, { generation: 7 }), undefined);
  });

  it('accepts 0 as the predecessor of the first generation', () => {
    assert.equal(codeOf('add', { gen: 1, prevGen: 0 }), undefined);
    assert.equal(codeOf('add', { gen: 2, prevGen: 1 }), 'rejected GENERATION_GAP');
  });

  it('refuses deltas, and only deltas, while a deploy is awaited', () => {
    const awaitingDeploy = 'The command stream was made anew';
    assert.equal(codeOf('delete', {}, { awaitingDeploy }), 'rejected RESYNC_REQUIRED');
    assert.equal(codeOf('deploy', {}, { awaitingDeploy }), undefined);
  });
});

describe('continuity of the command stream', () => {
  const known: Mark = { created: 'A', lastSeq: 10, storedAt: '2026-01-01T12:00:00.000Z' };
  const message = (seq: number, storedAt: string, streamCreated = 'A') =>
    continuityOfMessage({ seq, storedAt, streamCreated }, known);

  it('accepts any message as the first one while nothing was answered', () => {
    assert.equal(continuityOfMessage({ seq: 1, storedAt: '', streamCreated: 'B' }, undefined), 'follows');
  });

  it('distinguishes what follows, what lies before, and a sequence that is used a second time', () => {
    assert.equal(message(11, '2026-01-01T12:00:01.000Z'), 'follows');
    assert.equal(message(9, '2026-01-01T11:00:00.000Z'), 'lies-before');
    assert.equal(message(9, '2026-01-01T13:00:00.000Z'), 'put-back');
    assert.equal(message(11, '2026-01-01T13:00:00.000Z', 'B'), 'made-anew');
  });

  it('recognises messages from before a rewind only by their time, until a mark is set again', () => {
    const rewound: Mark = { ...known, lastSeq: 0 };
    const again = (seq: number, storedAt: string) =>
      continuityOfMessage({ seq, storedAt, streamCreated: 'A' }, rewound);
    assert.equal(again(4, '2026-01-01T11:00:00.000Z'), 'lies-before');
    assert.equal(again(4, '2026-01-01T13:00:00.000Z'), 'follows');
    assert.equal(continuityOfStream({ created: 'A', lastSeq: 4 }, rewound), 'follows');
  });

  it('detects a stream that is shorter than before, or another stream', () => {
    assert.equal(continuityOfStream({ created: 'A', lastSeq: 10 }, known, known.storedAt), 'follows');
    assert.equal(continuityOfStream({ created: 'A', lastSeq: 12 }, known, '2026-01-01T13:00:00.000Z'), 'put-back');
    assert.equal(continuityOfStream({ created: 'A', lastSeq: 9 }, known), 'put-back');
    assert.equal(continuityOfStream({ created: 'B', lastSeq: 99 }, known), 'made-anew');
  });
});
