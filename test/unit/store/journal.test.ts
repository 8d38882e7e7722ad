import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { nodeFileOps } from '../../../src/store/file-ops.js';
import { Journal } from '../../../src/store/journal.js';
import { encodeLine } from '../../../src/store/line.js';
import { answerTo, commandKey, desiring, finished, openJournal, reopen, STREAM, temporaryDir } from './samples.js';

describe('a journal', () => {
  it('begins with an identity and with nothing known', async (t) => {
    const dir = join(await temporaryDir(t), 'made', 'on', 'demand');
    const journal = new Journal({ dir });
    t.after(() => journal.close());

    const report = await journal.open();

    assert.deepEqual(report, { fresh: true, truncatedTail: false });
    assert.match(journal.instanceId, /^[0-9a-f-]{36}$/);
    assert.equal(journal.desired, null);
    assert.equal(journal.generation, undefined);
    assert.equal(journal.stream, undefined);
    assert.equal(journal.awaitingDeploy, undefined);
    assert.deepEqual(journal.pending(), []);
    assert.equal(journal.find(commandKey(1)), undefined);
  });

  it('keeps its identity', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const { instanceId } = journal;

    assert.equal((await reopen(t, journal, dir)).instanceId, instanceId);
  });

  it('is for its owner only, since payloads may hold secrets', async (t) => {
    const dir = join(await temporaryDir(t), 'state');
    await openJournal(t, dir);

    assert.equal((await stat(dir)).mode & 0o777, 0o700);
    assert.equal((await stat(join(dir, 'journal'))).mode & 0o777, 0o600);
  });

  it('remembers everything that a finished command changed', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.awaitDeploy('The command stream was made anew');
    const key = commandKey(7);
    await journal.begin(key, 'deploy');
    await journal.finish(
      finished(key, { desired: desiring('ratelimiting', 'connlimit'), generation: 3, clearsAwait: true }),
    );

    const next = await reopen(t, journal, dir);

    assert.deepEqual(next.desired, desiring('ratelimiting', 'connlimit'));
    assert.equal(next.generation, 3);
    assert.deepEqual(next.stream, { created: STREAM, lastSeq: 7, storedAt: key.storedAt });
    assert.equal(next.awaitingDeploy, undefined);
    assert.deepEqual(next.pending(), [answerTo(key)]);
    const record = { key, verb: 'deploy', attempts: 1, status: 'applied', acknowledged: false, answer: answerTo(key) };
    assert.deepEqual(next.find(key), record);
  });

  it('leaves alone what a finished command did not change', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.finish(finished(commandKey(1), { desired: desiring('ratelimiting'), generation: 3 }));
    await journal.awaitDeploy('Generation 4 is missing');
    await journal.finish(finished(commandKey(2), { status: 'rejected' }));

    const next = await reopen(t, journal, dir);

    assert.deepEqual(next.desired, desiring('ratelimiting'));
    assert.equal(next.generation, 3);
    assert.equal(next.awaitingDeploy, 'Generation 4 is missing');
    assert.equal(next.stream?.lastSeq, 2);
  });

  it('tells nothing desired from nothing known', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.setDesired(desiring());

    assert.deepEqual((await reopen(t, journal, dir)).desired, { chains: [], addresses: {} });
  });

  it('keeps fields of a program that it does not know', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const known = desiring('ratelimiting');
    const extended = { ...known, chains: known.chains.map((chain) => ({ ...chain, since: 'a later version' })) };
    await journal.setDesired(extended);

    assert.deepEqual((await reopen(t, journal, dir)).desired, extended);
  });

  it('refuses to note what it could not read again', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);

    await assert.rejects(journal.finish(finished(commandKey(1), { generation: Number.NaN })), {
      code: 'INTERNAL',
      message: /0\.entries\.0\.generation/,
    });

    assert.equal((await reopen(t, journal, dir)).find(commandKey(1)), undefined);
  });

  it('answers calls that overlap in the order in which they came', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const key = commandKey(1);

    const attempts = await Promise.all([
      journal.begin(key, 'add'),
      journal.begin(key, 'add'),
      journal.begin(key, 'add'),
    ]);
    await Promise.all(Array.from({ length: 50 }, (_, n) => journal.finish(finished(commandKey(n + 1)))));

    assert.deepEqual(attempts, [1, 2, 3]);
    assert.equal(journal.stream?.lastSeq, 50);
    const ids = journal.pending().map(({ id }) => id);
    assert.deepEqual(
      ids,
      Array.from({ length: 50 }, (_, n) => answerTo(commandKey(n + 1)).id),
    );
    assert.deepEqual(
      (await reopen(t, journal, dir)).pending().map(({ id }) => id),
      ids,
    );
  });

  it('says so when it is used before it is open or after it is closed', async (t) => {
    const journal = new Journal({ dir: await temporaryDir(t) });
    const notOpen = { code: 'INTERNAL', message: 'The journal is not open' };

    assert.throws(() => journal.desired, notOpen);
    await journal.open();
    await journal.close();
    await journal.close();

    await assert.rejects(journal.begin(commandKey(1), 'add'), notOpen);
    await assert.rejects(journal.confirm('an answer'), notOpen);
  });

  it('reports a directory that it cannot use', async (t) => {
    const dir = await temporaryDir(t);
    await writeFile(join(dir, 'file'), '');

    await assert.rejects(new Journal({ dir: join(dir, 'file') }).open(), (error) => {
      assert.ok(error instanceof AgentError);
      assert.equal(error.code, 'INTERNAL');
      assert.match(error.message, /cannot be opened: EEXIST/);
      return true;
    });
  });
});

describe('counting attempts', () => {
  it('goes on over restarts until the command is finished', async (t) => {
    const dir = await temporaryDir(t);
    const key = commandKey(1);
    let journal = await openJournal(t, dir);
    assert.equal(await journal.begin(key, 'deploy'), 1);
    journal = await reopen(t, journal, dir);
    assert.equal(await journal.begin(key, 'deploy'), 2);
    journal = await reopen(t, journal, dir);
    assert.equal(await journal.begin(key, 'deploy'), 3);

    await journal.finish(finished(key, { status: 'failed' }));

    await assert.rejects(journal.begin(key, 'deploy'), { code: 'INTERNAL', message: /has been answered \(failed\)/ });
    assert.equal(journal.find(key)?.attempts, 3);
  });

  it('is per command', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));

    assert.equal(await journal.begin(commandKey(1), 'deploy'), 1);
    assert.equal(await journal.begin(commandKey(2), 'deploy'), 1);
  });
});

describe('knowing a command again', () => {
  it('goes by the sender’s id alone, wherever in the stream it stands', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    await journal.finish(finished(commandKey(1, { id: 'order-66' })));

    assert.equal(journal.find(commandKey(2, { id: 'order-66' }))?.status, 'applied');
  });

  it('takes a sequence for the same command only if it was stored at the same time', async (t) => {
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

  it('begins anew with another stream', async (t) => {
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
});

describe('answers on their way', () => {
  it('stay until they are confirmed, in order, over restarts', async (t) => {
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

  it('are noted as confirmed even if nothing else is written and the journal is never closed', {
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

  it('are not needed: a command finished without one counts as acknowledged', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t));
    const { key, verb, status } = finished(commandKey(1));
    await journal.finish({ key, verb, status });

    assert.deepEqual(journal.find(key), { key, verb, status, attempts: 0, acknowledged: true });
  });
});

describe('what is remembered', () => {
  it('is bounded in number, but for answers on their way', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir, { maxRecords: 3 });
    for (let seq = 1; seq <= 10; seq += 1) await journal.finish(finished(commandKey(seq)));
    assert.equal(journal.pending().length, 10);

    for (let seq = 2; seq <= 10; seq += 1) await journal.confirm(answerTo(commandKey(seq)).id);

    const known = Array.from({ length: 10 }, (_, n) => n + 1).filter(
      (seq) => journal.find(commandKey(seq)) !== undefined,
    );
    assert.deepEqual(known, [1, 8, 9, 10]);
  });

  it('is bounded in bytes: the oldest bodies go first, but not the knowledge that the command is done', async (t) => {
    const journal = await openJournal(t, await temporaryDir(t), { maxAnswerLength: 2500 });
    for (let seq = 1; seq <= 4; seq += 1) {
      const key = commandKey(seq);
      await journal.finish(finished(key, { outbox: answerTo(key, 'x'.repeat(1000)) }));
      await journal.confirm(answerTo(key).id);
    }

    const kept = [1, 2, 3, 4].map((seq) => journal.find(commandKey(seq))?.answer?.body.length);
    assert.deepEqual(kept, [undefined, undefined, 1000, 1000]);
    assert.equal(journal.find(commandKey(1))?.status, 'applied');
  });
});

describe('compaction', () => {
  it('keeps the file within a multiple of what it says, and what it says', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir, { maxRecords: 5, compactAbove: 4096 });
    let largest = 0;
    for (let seq = 1; seq <= 300; seq += 1) {
      const key = commandKey(seq);
      await journal.begin(key, 'deploy');
      await journal.finish(finished(key, { desired: desiring(`program-${seq}`), generation: seq }));
      await journal.confirm(answerTo(key).id);
      largest = Math.max(largest, (await stat(join(dir, 'journal'))).size);
    }

    assert.ok(largest < 16_384, `${largest} bytes`);
    const next = await reopen(t, journal, dir);
    assert.deepEqual(next.desired, desiring('program-300'));
    assert.equal(next.generation, 300);
    assert.equal(next.find(commandKey(298))?.status, 'applied');
    assert.deepEqual(await readdir(dir), ['journal']);
  });
});

describe('a journal that cannot be trusted', () => {
  const damages = {
    'a wrong byte in the middle': (text: string) => text.replace('"deploy"', '"deplox"'),
    'a wrong byte in the first line': (text: string) => text.replace('instanceId', 'instanceIt'),
    'no content': () => '',
    'a first line of another program': (text: string) => encodeLine({ journal: 2 }) + text,
    'a version of the future': (text: string) => encodeLine({ 'l3af-journal': 2 }) + text,
    'a line that says something unknown': (text: string) => text + encodeLine([{ op: 'dance' }]),
    'a desired state that is none': (text: string) =>
      text + encodeLine([{ op: 'desired', desired: { chains: 'all' } }]),
  };

  for (const [what, damage] of Object.entries(damages)) {
    it(`is kept aside and begun anew: ${what}`, async (t) => {
      const dir = await temporaryDir(t);
      const journal = await openJournal(t, dir);
      await journal.finish(finished(commandKey(1), { desired: desiring('ratelimiting') }));
      await journal.begin(commandKey(2), 'add');
      await journal.close();
      const damaged = damage(await readFile(join(dir, 'journal'), 'utf8'));
      await writeFile(join(dir, 'journal'), damaged);

      const logged: string[] = [];
      const logger = { warn: () => {}, error: (_fields: object, message: string) => logged.push(message) };
      const next = new Journal({ dir, logger });
      t.after(() => next.close());
      const report = await next.open();

      assert.equal(report.fresh, false);
      assert.equal(report.truncatedTail, false);
      assert.match(report.damaged?.path ?? '', /journal\.damaged-20\d\d-/);
      assert.equal(await readFile(report.damaged?.path ?? '', 'utf8'), damaged);
      assert.ok((report.damaged?.reason ?? '').length > 10, report.damaged?.reason);
      assert.deepEqual(logged, ['journal is damaged; it is kept aside and an empty one begins']);
      assert.equal(next.desired, null, 'not known, rather than nothing');
      assert.equal(next.awaitingDeploy, undefined);
      await next.begin(commandKey(3), 'deploy');
      assert.equal((await reopen(t, next, dir)).find(commandKey(3))?.attempts, 1);
    });
  }

  it('still says who wrote it, so that the host is not taken for a second one', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const { instanceId } = journal;
    await journal.close();
    const text = await readFile(join(dir, 'journal'), 'utf8');
    await writeFile(join(dir, 'journal'), `${text}rotten\n${encodeLine([])}`);

    const next = await openJournal(t, dir);

    assert.equal(next.instanceId, instanceId);
  });

  it('is not what a disk that cannot be read means', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.setDesired(desiring('ratelimiting'));
    await journal.close();
    const failing = { ...nodeFileOps, read: () => Promise.reject(new Error('EIO: i/o error, read')) };

    await assert.rejects(new Journal({ dir, files: failing }).open(), { code: 'INTERNAL', message: /EIO/ });

    assert.deepEqual(await readdir(dir), ['journal']);
    assert.deepEqual((await openJournal(t, dir)).desired, desiring('ratelimiting'));
  });
});

describe('a last write that a crash cut short', () => {
  it('is undone, and what follows stands on whole lines', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.finish(finished(commandKey(1), { desired: desiring('ratelimiting') }));
    await journal.close();
    const path = join(dir, 'journal');
    const whole = await readFile(path);
    await writeFile(
      path,
      Buffer.concat([whole, encodeLine([{ op: 'await-deploy', reason: 'never written' }]).subarray(0, 30)]),
    );

    const next = new Journal({ dir });
    t.after(() => next.close());
    const report = await next.open();

    assert.deepEqual(report, { fresh: false, truncatedTail: true });
    assert.deepEqual(await readFile(path), whole);
    assert.equal(next.awaitingDeploy, undefined);
    await next.setDesired(desiring('connlimit'));
    assert.deepEqual((await reopen(t, next, dir)).desired, desiring('connlimit'));
  });
});
