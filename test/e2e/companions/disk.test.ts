import assert from 'node:assert/strict';
import { mkdtemp, open, rm, rmdir, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { CompanionBed, DAEMON, failsWith, launchOf, pidOf, stateOf } from '../../support/companions.js';
import { run } from '../../support/tool.js';

/*
 * Real companions whose folder is on a small separate disk. This needs root.
 */

async function givenSmallDisk(t: TestContext): Promise<{ bed: CompanionBed; disk: string }> {
  const disk = await mkdtemp(join(tmpdir(), 'l3af-small-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'l3af-small', disk]);
  const bed = await CompanionBed.create(t, { dir: join(disk, 'companions') });
  t.after(async () => {
    await run('umount', [disk]);
    await rmdir(disk);
  });
  await bed.script('run', DAEMON);
  return { bed, disk };
}

/** Fills the disk. @returns a function that frees the space again */
async function fill(disk: string): Promise<() => Promise<void>> {
  const path = join(disk, 'fill');
  const { bavail, bsize } = await statfs(disk);
  const file = await open(path, 'w');
  await file.write(Buffer.alloc(bavail * bsize));
  await file.close();
  return () => rm(path);
}

test('a companion that cannot be recorded on a full disk is started only when there is room', async (t) => {
  const { bed, disk } = await givenSmallDisk(t);
  const companions = await bed.open();
  const free = await fill(disk);

  const error = await failsWith(
    companions.start(launchOf(), [], 0),
    'DISK_FULL',
    /^The files of the companion of watcher in \S+ cannot be written: ENOSPC; free space/,
  );

  assert.equal(error.transient, true);
  assert.deepEqual(await companions.observe(), []);
  assert.deepEqual(bed.said(), [], 'it was started');
  await free();
  await companions.start(launchOf(), [], 0);
  assert.equal((await companions.observe())[0]?.state, 'running');
  await companions.stop(launchOf());
});

test('a companion keeps running while the disk is full; the next agent knows it and can stop it', async (t) => {
  const { bed, disk } = await givenSmallDisk(t);
  const companions = await bed.open();
  await bed.script('run', '#!/bin/sh\necho begun\nwhile :; do sleep 0.05; echo said 2>/dev/null; done\n');
  await companions.start(launchOf(), [], 0);
  const pid = await pidOf(companions);
  const free = await fill(disk);
  await companions.close();

  const next = await bed.open();

  assert.equal(await pidOf(next), pid);
  await next.stop(launchOf());
  assert.equal(stateOf(pid), undefined);
  assert.deepEqual(await next.observe(), []);
  await free();
});

test('an update that cannot be recorded on a full disk does not count as done', async (t) => {
  const { bed, disk } = await givenSmallDisk(t);
  const companions = await bed.open();
  await bed.script('set', '#!/bin/sh\necho "set: $*"\n');
  const [before, after] = ['1', '2'].map((rate) => launchOf({ cmdUpdate: 'set', updateArgs: { rate } }));
  await companions.start(before!, [], 0);
  const free = await fill(disk);

  const error = await failsWith(companions.update(before!, after!), 'DISK_FULL', /ENOSPC; free space/);

  assert.equal(error.transient, true);
  assert.deepEqual((await companions.observe())[0]?.launch, before);
  await free();
  await companions.update(before!, after!);
  assert.deepEqual((await companions.observe())[0]?.launch, after);
  await companions.stop(after!);
});
