import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeRules } from '../../../src/companions/rules.js';
import { launchOf } from '../../support/companions.js';

const GROUP = { cgroup: '/a.slice/b', direction: 'cgroup_skb_egress' } as const;

test('rules for a control group lie within the package, and no folder is made through a link that leads out', async (t) => {
  const [home, outside] = await Promise.all(
    ['home', 'outside'].map((name) => mkdtemp(join(tmpdir(), `l3af-${name}-`))),
  );
  t.after(() => Promise.all([home, outside].map((dir) => rm(dir!, { recursive: true }))));
  // given a companion that has put a link where the first folder of the group's path would be
  await mkdir(join(home!, '.rules'));
  await symlink(outside!, join(home!, '.rules', 'a.slice'));

  const path = await writeRules(join(home!, 'run'), launchOf({ rules: 'drop', rulesFile: 'r.txt' }, 'watcher', GROUP));

  assert.equal(path, join(home!, '.rules/%2Fa.slice%2Fb/cgroup_skb_egress/r.txt'));
  assert.equal(await readFile(path, 'utf8'), 'drop');
  assert.deepEqual(await readdir(outside!), []);
});
