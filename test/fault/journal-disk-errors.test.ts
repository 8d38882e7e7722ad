import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type FileOps, nodeFileOps, type OpenFile } from '../../src/store/file-ops.js';
import { Journal } from '../../src/store/journal.js';
import { run } from '../support/tool.js';
import { until } from '../support/until.js';
import { answerTo, commandKey, desiring, finished, openJournal, reopen, temporaryDir } from '../unit/store/samples.js';

type Call = keyof FileOps | keyof OpenFile;

/** The real file operations, some of which a test can make fail. A failing write leaves half of its bytes behind. */
function failingFiles(): { files: FileOps; failing: Set<Call> } {
  const failing = new Set<Call>();
  const or = async <T>(call: Call, operate: () => Promise<T>): Promise<T> => {
    if (failing.has(call)) throw Object.assign(new Error(`EIO: i/o error, ${call}`), { code: 'EIO' });
    return operate();
  };
  const files: FileOps = {
    ...nodeFileOps,
    rename: (from, to) => or('rename', () => nodeFileOps.rename(from, to)),
    syncDir: (path) => or('syncDir', () => nodeFileOps.syncDir(path)),
    open: async (path, mode) => {
      const file = await or('open', () => nodeFileOps.open(path, mode));
      return {
        write: async (bytes, offset) => {
          if (failing.has('write')) await file.write(bytes.subarray(0, bytes.length / 2), offset);
          await or('write', () => file.write(bytes, offset));
        },
        sync: () => or('sync', () => file.sync()),
        truncate: (length) => or('truncate', () => file.truncate(length)),
        close: () => file.close(),
      };
    },
  };
  return { files, failing };
}

const REFUSED = { name: 'AgentError', code: 'DISK_FAULT', transient: true, message: /cannot be written: EIO/ };

describe('a journal on a failing disk', () => {
  const refusals: Record<string, readonly Call[]> = {
    'a write': ['write'],
    'an fsync': ['sync'],
    'a write, and then the removal of the half line': ['write', 'truncate'],
    'a write, and every fsync': ['write', 'sync'],
  };

  for (const [what, calls] of Object.entries(refusals)) {
    it(`stays unchanged, and continues when the disk works again: ${what}`, async (t) => {
      const dir = await temporaryDir(t);
      const { files, failing } = failingFiles();
      const journal = await openJournal(t, dir, { files });
      await journal.finish(finished(commandKey(1), { desired: desiring('ratelimiting'), generation: 1 }));
      await journal.confirm(answerTo(commandKey(1)).id);

      for (const call of calls) failing.add(call);
      await assert.rejects(journal.begin(commandKey(2), 'add'), REFUSED);
      await assert.rejects(journal.finish(finished(commandKey(2), { desired: desiring(), generation: 2 })), REFUSED);

      assert.equal(journal.find(commandKey(2)), undefined);
      assert.deepEqual(
        [journal.desired, journal.generation, journal.stream?.lastSeq],
        [desiring('ratelimiting'), 1, 1],
      );

      failing.clear();
      assert.equal(await journal.begin(commandKey(3), 'add'), 1);
      const next = await reopen(t, journal, dir);
      assert.equal(next.find(commandKey(2)), undefined);
      assert.equal(next.find(commandKey(3))?.attempts, 1);
      assert.deepEqual(next.desired, desiring('ratelimiting'));
      assert.deepEqual(next.pending(), [], 'the confirmation went with a later write');
    });
  }

  it('leaves at most half a line, which the next process removes', async (t) => {
    const dir = await temporaryDir(t);
    const { files, failing } = failingFiles();
    const journal = await openJournal(t, dir, { files });
    await journal.setDesired(desiring('ratelimiting'));
    failing.add('write').add('truncate');
    await assert.rejects(journal.setDesired(desiring()), REFUSED);
    await assert.rejects(journal.setDesired(desiring()), REFUSED);

    const next = new Journal({ dir });
    t.after(() => next.close());

    assert.deepEqual(await next.open(), { fresh: false, truncatedTail: true });
    assert.deepEqual(next.desired, desiring('ratelimiting'));
  });

  for (const call of ['open', 'rename'] as const) {
    it(`keeps using the old file when compaction fails: ${call}`, async (t) => {
      const dir = await temporaryDir(t);
      const { files, failing } = failingFiles();
      const warnings: string[] = [];
      const logger = { warn: (_: object, message: string) => warnings.push(message), error: () => {} };
      const journal = await openJournal(t, dir, { files, logger, compactAbove: 2000 });

      failing.add(call);
      for (let seq = 1; seq <= 20; seq += 1) await journal.finish(finished(commandKey(seq)));
      assert.deepEqual(new Set(warnings), new Set(['journal could not be compacted; it keeps growing for now']));
      assert.ok(warnings.length < 5, 'not tried again with every write');
      assert.equal((await reopen(t, journal, dir)).stream?.lastSeq, 20);
      assert.deepEqual((await readdir(dir)).toSorted(), ['instance-id', 'journal']);
    });
  }

  it('refuses writes until the name of the compacted file is on disk', async (t) => {
    const dir = await temporaryDir(t);
    const { files, failing } = failingFiles();
    const journal = await openJournal(t, dir, { files, compactAbove: 500 });
    const inode = async () => (await stat(join(dir, 'journal'))).ino;
    const before = await inode();
    failing.add('syncDir');
    await journal.setDesired(desiring('ratelimiting', 'connlimit'));
    await until('the compaction', async () => (await inode()) !== before);

    await assert.rejects(journal.setDesired(desiring()), REFUSED);

    failing.clear();
    await journal.setDesired(desiring('ipfix'));
    assert.deepEqual((await reopen(t, journal, dir)).desired, desiring('ipfix'));
  });
});

describe('a journal on a full disk', () => {
  it('refuses what does not fit, keeps what it has, and continues when there is room', async (t) => {
    const dir = await smallDisk(t, '256k');
    const journal = await openJournal(t, dir);
    await journal.setDesired(desiring('ratelimiting'));
    await writeFile(join(dir, 'ballast'), Buffer.alloc(64 * 1024));
    let stored = 0;

    await assert.rejects(
      async () => {
        for (;;) {
          const key = commandKey(stored + 1);
          await journal.finish(finished(key, { outbox: answerTo(key, 'x'.repeat(3000)) }));
          stored += 1;
        }
      },
      { code: 'DISK_FULL', message: /cannot be written: ENOSPC/ },
    );

    assert.ok(stored > 10, `${stored} commands`);
    assert.equal(journal.stream?.lastSeq, stored);
    const { size } = await stat(join(dir, 'journal'));
    assert.equal((await readFile(join(dir, 'journal'))).lastIndexOf('\n'), size - 1, 'no half line');

    await rm(join(dir, 'ballast'));
    await journal.finish(finished(commandKey(stored + 1)));
    const next = await reopen(t, journal, dir);
    assert.equal(next.stream?.lastSeq, stored + 1);
    assert.deepEqual(next.desired, desiring('ratelimiting'));
  });
});

/** A separate file system with the given size. */
async function smallDisk(t: TestContext, size: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-small-disk-'));
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'l3af-test', dir]);
  t.after(async () => {
    // Lazy unmount, since the journal is closed only after this.
    await run('umount', ['--lazy', dir]);
    await rmdir(dir);
  });
  return dir;
}
