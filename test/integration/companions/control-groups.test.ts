import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { CgroupTree, membersOf, removeGroup } from '../../../src/companions/cgroup.js';
import { CompanionBed, DAEMON, failsWith, launchOf, processesWith, stateOf } from '../../support/companions.js';
import { until } from '../../support/until.js';

let tree: CgroupTree;
before(async () => {
  const found = await CgroupTree.find();
  assert.ok(found, 'these tests need control groups of version 2');
  tree = found;
});

test('an agent that dies just after it has made a control group leaves none behind for long', async (t) => {
  let made: string | undefined;
  const dying = {
    path: (name: string) => tree.path(name),
    async make(name: string, memory: number) {
      await tree.make(name, memory);
      made = tree.path(name);
      return new Promise(() => undefined);
    },
    close: async () => undefined,
  } as unknown as CgroupTree;
  let agents = 0;
  const bed = await CompanionBed.create(t, { findCgroups: async () => (agents++ === 0 ? dying : tree) });
  await bed.script('run', DAEMON);
  void (await bed.open()).start(launchOf(), [], 0);
  await until('the group is there', () => made !== undefined);

  await bed.open();
  assert.equal(existsSync(made!), false);
  assert.deepEqual(await readdir(join(bed.dir, 'state')), []);
});

test('groups that a companion makes below its own are removed with it, and so is all that runs there', async (t) => {
  const bed = await CompanionBed.create(t, { times: { stopMs: 300 } });
  const companions = await bed.open();
  await bed.script(
    'run',
    `#!/bin/sh
group=${dirname(tree.path('any'))}/$(sed -n 's/^0:.*\\///p' /proc/self/cgroup)
mkdir "$group/below"
(echo 0 >"$group/below/cgroup.procs"; trap '' TERM; echo below; env -i setsid sleep 1001 & exit) &
exec sleep 1000
`,
  );
  await companions.start(launchOf(), [], 0);
  await bed.hears(/^below$/);
  const [id] = await readdir(join(bed.dir, 'state'));
  const group = tree.path(id!);
  await until('one runs below', async () => (await membersOf(join(group, 'below'))).length === 1);
  const [below] = await membersOf(join(group, 'below'));
  await companions.stop(launchOf());
  assert.equal(existsSync(group), false);
  assert.ok([undefined, 'Z'].includes(stateOf(below!)), 'it has ended, and is nobody’s but init’s');
  assert.deepEqual(processesWith(bed.dir), []);
});

test('a group whose record is gone is removed by the next agent', async (t) => {
  const bed = await CompanionBed.create(t);
  const first = await bed.open();
  await bed.script('run', DAEMON);
  await first.start(launchOf(), [], 0);
  const [id] = await readdir(join(bed.dir, 'state'));
  const folder = join(bed.dir, 'state', id!);
  await first.close();
  // The state after a removal that failed because the group was busy: no record, but a folder with its name.
  const record = JSON.parse(await readFile(join(folder, 'record.json'), 'utf8'));
  await writeFile(join(folder, 'record.json'), '');
  assert.equal(existsSync(record.cgroup), true);
  await bed.open();
  assert.equal(existsSync(record.cgroup), false);
  assert.equal(existsSync(folder), false);
});

test('errors of the system about control groups become sentences that say what to do', async (t) => {
  const error = await failsWith(tree.make('x'.repeat(5_000), 0), 'COMPANION_FAILED', /No control group can be made/);
  assert.match(error.detail ?? '', /ENAMETOOLONG/);

  const bed = await CompanionBed.create(t);
  const companions = await bed.open();
  await bed.script('run', DAEMON);
  await companions.start(launchOf(), [], 0);
  const [id] = await readdir(join(bed.dir, 'state'));
  const busy = await failsWith(removeGroup(tree.path(id!)), 'LEFTOVER', /cannot be removed.*rmdir/);
  assert.match(busy.detail ?? '', /EBUSY/);
});
