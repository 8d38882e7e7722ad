import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { entriesBelow } from '../../support/pins.js';

/* What tests count as left in a bpffs. Here a folder stands for the bpffs. */

async function given(t: TestContext, ...paths: readonly string[]): Promise<string> {
  const bpffs = await mkdtemp(join(tmpdir(), 'l3af-entries-'));
  t.after(() => rm(bpffs, { recursive: true }));
  for (const path of paths) {
    mkdirSync(join(bpffs, path, '..'), { recursive: true });
    if (path.endsWith('/')) mkdirSync(join(bpffs, path), { recursive: true });
    else writeFileSync(join(bpffs, path), '');
  }
  return bpffs;
}

const pathsIn = (bpffs: string) => entriesBelow(bpffs).map(({ path }) => path);

test('folders and pins count, the iterators of the kernel do not', async (t) => {
  const bpffs = await given(t, 'maps.debug', 'progs.debug', 'tc/globals/', 'links/veth0/link');
  assert.deepEqual(pathsIn(bpffs).toSorted(), ['links', 'links/veth0', 'links/veth0/link', 'tc', 'tc/globals']);
});

test('what iproute2 makes in the bpffs of others does not count, unless something is pinned in it', async (t) => {
  const bpffs = await given(t, 'tc/globals/');
  for (const name of ['ip', 'xdp']) symlinkSync('tc/', join(bpffs, name));
  assert.deepEqual(pathsIn(bpffs), []);
  writeFileSync(join(bpffs, 'tc/globals/a_map'), '');
  assert.deepEqual(pathsIn(bpffs).toSorted(), ['tc', 'tc/globals', 'tc/globals/a_map']);
});
