import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { nodeFileOps } from '../../../src/store/file-ops.js';
import { Journal } from '../../../src/store/journal.js';
import { encodeLine } from '../../../src/store/line.js';
import { commandKey, desiring, finished, openJournal, reopen, temporaryDir } from './samples.js';

describe('a journal that cannot be trusted', () => {
  const damages = {
    'a wrong byte in the middle': (text: string) => text.replace('"deploy"', '"deplox"'),
    'a wrong byte in the first line': (text: string) => text.replace('instanceId', 'instanceIt'),
    'no content': () => '',
    'a first line of another program': (text: string) => encodeLine({ journal: 2 }) + text,
    'a future version': (text: string) => encodeLine({ 'l3af-journal': 2 }) + text,
    'a line with an unknown operation': (text: string) => text + encodeLine([{ op: 'dance' }]),
    'an invalid desired state': (text: string) => text + encodeLine([{ op: 'desired', desired: { chains: 'all' } }]),
  };

  for (const [what, damage] of Object.entries(damages)) {
    it(`is kept under another name and replaced by a new one: ${what}`, async (t) => {
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
      assert.deepEqual(logged, ['journal is damaged; it is kept under another name and replaced by an empty one']);
      assert.equal(next.desired, null, 'not known, rather than nothing');
      assert.equal(next.awaitingDeploy, undefined);
      await next.begin(commandKey(3), 'deploy');
      assert.equal((await reopen(t, next, dir)).find(commandKey(3))?.attempts, 1);
    });
  }

  const losses = {
    'a damaged tail': (text: string) => `${text}rotten\n${encodeLine([])}`,
    'a damaged first line': (text: string) => text.replace('instanceId', 'instanceIt'),
    'no content': () => '',
  };
  for (const [what, damage] of Object.entries(losses)) {
    it(`keeps its instance id: ${what}`, async (t) => {
      const dir = await temporaryDir(t);
      const journal = await openJournal(t, dir);
      const { instanceId } = journal;
      await journal.close();
      await writeFile(join(dir, 'journal'), damage(await readFile(join(dir, 'journal'), 'utf8')));

      const next = await openJournal(t, dir);

      assert.equal(next.instanceId, instanceId);
    });
  }

  it('has the valid instance id if the id file is damaged, and repairs that file', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    const { instanceId } = journal;
    await journal.close();
    await writeFile(join(dir, 'instance-id'), 'rotten');

    const next = await openJournal(t, dir);

    assert.equal(next.instanceId, instanceId);
    assert.equal(await readFile(join(dir, 'instance-id'), 'utf8'), `${instanceId}\n`);
  });

  it('is not assumed when the disk cannot be read', async (t) => {
    const dir = await temporaryDir(t);
    const journal = await openJournal(t, dir);
    await journal.setDesired(desiring('ratelimiting'));
    await journal.close();
    const refusal = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    const failing = { ...nodeFileOps, read: () => Promise.reject(refusal) };

    await assert.rejects(new Journal({ dir, files: failing }).open(), { code: 'DISK_FAULT', message: /EIO/ });

    assert.deepEqual((await readdir(dir)).toSorted(), ['instance-id', 'journal']);
    assert.deepEqual((await openJournal(t, dir)).desired, desiring('ratelimiting'));
  });
});

describe('a last write that a crash cut short', () => {
  it('is removed, and the next write begins on a new line', async (t) => {
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
