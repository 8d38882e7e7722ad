import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { answerTo, commandKey, finished, openJournal, reopen, STREAM, temporaryDir } from './samples.js';

describe('counting attempts', () => {
  it('continues after restarts until the command is finished', async (t) => {
    const dir = await temporaryDir(t);
    const key = commandKey(1);
    let journal = await openJournal(t, dir);
    assert.equal(await journal.begin(key, 'deploy'), 1);
    journal = await reopen(t, journal, dir);
    assert.equal(await journal.begin(key, 'deploy'), 2);
    journal = await reopen(t, journal, dir);
    assert.equal(await journal.begin(key, 'deploy'), 3);

    await journal.finish(finished(key, { status: 'failed' }));

    await assert.rejects(journal.begin(key, 'deploy'), { code: 'INTERNAL', message: /already answered \(failed\)/ });
    assert.equal(journal.find(key)?.attempts, 3);
  });

  it('is per command', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));

    assert.equal(await journal.begin(commandKey(1), 'deploy'), 1);
    assert.equal(await journal.begin(commandKey(2), 'deploy'), 1);
  });
});

describe('recognising a command', () => {
  it('uses only the sender’s id, not the position in the stream', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    await journal.finish(finished(commandKey(1, { id: 'order-66' })));

    assert.equal(journal.find(commandKey(2, { id: 'order-66' }))?.status, 'applied');
  });

  it('takes an equal sequence number for the same command only if the time of storage is the same, too', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const key = commandKey(1, { id: 'L3AF_CMD:1', idIsSequence: true });
    await journal.finish(finished(key));

    const next = await reopen(t, journal, dir);

    assert.equal(next.find(key)?.status, 'applied');
    assert.equal(next.find({ ...key, storedAt: '2025-03-01T00:00:00Z' }), undefined);
    assert.equal(next.find({ ...key, idIsSequence: false }), undefined);
  });
});

describe('the position in the stream', () => {
  it('never goes back by itself', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    await journal.finish(finished(commandKey(9)));
    await journal.finish(finished(commandKey(4)));

    assert.equal(journal.stream?.lastSeq, 9);
  });

  it('starts again with a new stream', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    await journal.finish(finished(commandKey(9)));
    const key = commandKey(1, { streamCreated: '2025-06-01T00:00:00Z' });
    await journal.finish(finished(key));

    assert.deepEqual(journal.stream, { created: '2025-06-01T00:00:00Z', lastSeq: 1, storedAt: key.storedAt });
  });

  it('goes back when told to', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.finish(finished(commandKey(9)));
    await journal.moveStream({ created: STREAM, lastSeq: 3 });

    const next = await reopen(t, journal, dir);
    assert.deepEqual(next.stream, { created: STREAM, lastSeq: 3, storedAt: '' });
    await next.finish(finished(commandKey(4)));
    assert.equal(next.stream?.lastSeq, 4);
  });

  it('stays after a rewind until the awaited deploy', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    await journal.finish(finished(commandKey(9)));
    const rewound = { created: STREAM, lastSeq: 0, storedAt: commandKey(9).storedAt };
    await journal.awaitDeploy('The command stream was put back to an earlier state');
    await journal.moveStream(rewound);

    await journal.finish(finished(commandKey(3)));
    assert.deepEqual(journal.stream, rewound);
    await journal.finish({ ...finished(commandKey(4)), clearsAwait: true });
    assert.equal(journal.stream?.lastSeq, 4);
  });
});

describe('unconfirmed answers', () => {
  it('are kept until they are confirmed, in order, and after restarts', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const keys = [1, 2, 3].map((seq) => commandKey(seq));
    await journal.finishMany(keys.map((key) => finished(key, { status: 'superseded' })));
    await journal.confirm(answerTo(commandKey(2)).id);
    await journal.confirm('an id that nobody knows');

    const next = await reopen(t, journal, dir);

    assert.deepEqual(next.pending(), [answerTo(commandKey(1)), answerTo(commandKey(3))]);
    assert.equal(next.find(commandKey(2))?.acknowledged, true);
    assert.deepEqual(next.find(commandKey(2))?.answer, answerTo(commandKey(2)), 'kept, to be given again');
  });

  it('are recorded as confirmed even if nothing else is written and the journal is never closed', {
    timeout: 30_000,
  }, async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir, { confirmDelayMs: 0 });
    await journal.finish(finished(commandKey(1)));
    const before = (await stat(join(dir, 'journal'))).size;
    await journal.confirm(answerTo(commandKey(1)).id);

    while ((await stat(join(dir, 'journal'))).size === before) await new Promise(setImmediate);

    const next = await openJournal(t, dir);
    assert.deepEqual(next.pending(), []);
  });

  it('are optional: a command finished without one counts as acknowledged', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    const { key, verb, status } = finished(commandKey(1));
    await journal.finish({ key, verb, status });

    assert.deepEqual(journal.find(key), { key, verb, status, attempts: 0, acknowledged: true });
  });
});
