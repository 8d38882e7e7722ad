import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AgentError } from '../../../src/errors.js';
import { type FileOps, nodeFileOps } from '../../../src/store/file-ops.js';
import { Journal } from '../../../src/store/journal.js';
import { answerTo, commandKey, desiring, finished, openJournal, reopen, STREAM, temporaryDir } from './samples.js';

describe('a journal', () => {
  it('begins with an identity, and knows nothing else', async (t) => {
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

  it('can be read only by its owner, since payloads may hold secrets', async (t) => {
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

  it('distinguishes an empty desired state from an unknown one', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.setDesired(desiring());

    assert.deepEqual((await reopen(t, journal, dir)).desired, { chains: [], addresses: {} });
  });

  it('keeps unknown fields of a program', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const known = desiring('ratelimiting');
    const extended = { ...known, chains: known.chains.map((chain) => ({ ...chain, since: 'a later version' })) };
    await journal.setDesired(extended);

    assert.deepEqual((await reopen(t, journal, dir)).desired, extended);
  });

  it('refuses to write what it could not read again', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);

    await assert.rejects(journal.finish(finished(commandKey(1), { generation: Number.NaN })), {
      code: 'INTERNAL',
      message: /0\.entries\.0\.generation/,
    });

    assert.equal((await reopen(t, journal, dir)).find(commandKey(1)), undefined);
  });

  it('answers concurrent calls in the order of their arrival', async (t) => {
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

  it('fails with a clear error when it is used before it is open or after it is closed', async (t) => {
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

describe('the memory of commands', () => {
  it('is limited in number, except for unconfirmed answers', async (t) => {
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

  it('is limited in bytes: the oldest bodies are dropped first, but it is still known that their commands are done', async (t) => {
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
  it('limits the size of the file, and keeps its content', async (t) => {
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
    await reopen(t, next, dir);
    assert.deepEqual((await readdir(dir)).toSorted(), ['instance-id', 'journal']);
  });

  it('keeps no command waiting, and loses nothing that is written meanwhile', async (t) => {
    const dir = await temporaryDir(t);
    const events = new EventEmitter();
    const begun = once(events, 'begun');
    const permitted = once(events, 'permitted');
    const files: FileOps = {
      ...nodeFileOps,
      open: async (path, mode) => {
        if (path.endsWith('.tmp')) {
          events.emit('begun');
          await permitted;
        }
        return nodeFileOps.open(path, mode);
      },
    };
    // The first file of a journal is made in the same way.
    await (await openJournal(t, dir)).close();
    const journal = await openJournal(t, dir, { files, compactAbove: 500 });
    await journal.setDesired(desiring('ratelimiting', 'connlimit'));
    await begun;
    const { ino } = await stat(join(dir, 'journal'));

    await journal.finish(finished(commandKey(1), { desired: desiring('ipfix'), generation: 1 }));
    assert.equal((await stat(join(dir, 'journal'))).ino, ino, 'the file is not replaced yet');
    events.emit('permitted');

    const next = await reopen(t, journal, dir);
    assert.notEqual((await stat(join(dir, 'journal'))).ino, ino);
    assert.deepEqual(next.desired, desiring('ipfix'));
    assert.equal(next.find(commandKey(1))?.status, 'applied');
  });

  it('gives its room to a line for which there is no other, and takes the place of the file then', async (t) => {
    const dir = await temporaryDir(t);
    const events = new EventEmitter();
    const begun = once(events, 'begun');
    const permitted = once(events, 'permitted');
    let isFull = false;
    const files: FileOps = {
      ...nodeFileOps,
      open: async (path, mode) => {
        const file = await nodeFileOps.open(path, mode);
        if (path.endsWith('.tmp')) {
          events.emit('begun');
          await permitted;
          return file;
        }
        const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
        return { ...file, write: (bytes, offset) => (isFull ? Promise.reject(full) : file.write(bytes, offset)) };
      },
    };
    await (await openJournal(t, dir)).close();
    const journal = await openJournal(t, dir, { files, compactAbove: 500 });
    await journal.setDesired(desiring('ratelimiting', 'connlimit'));
    await begun;

    isFull = true;
    const finishing = journal.finish(finished(commandKey(1), { desired: desiring('ipfix') }));
    events.emit('permitted');
    await finishing;

    const next = await reopen(t, journal, dir);
    assert.deepEqual(next.desired, desiring('ipfix'));
    assert.equal(next.find(commandKey(1))?.status, 'applied');
  });
});
