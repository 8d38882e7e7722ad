import assert from 'node:assert/strict';
import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache } from '../../../src/packages/cache.js';
import type { KeepLimits } from '../../../src/packages/limits.js';
import { readRecord } from '../../../src/packages/record.js';
import { tarGz } from '../../support/archives.js';
import { startPackageServer } from '../../support/package-server.js';
import { scratchFolder } from '../../support/scratch.js';

const DAY_MS = 24 * 3600 * 1000;

function version(number: string) {
  return { name: 'p', version: number, artifact: 'p.tgz', repoUrl: '' };
}

/** A cache with three versions of 1000 bytes each, used three, two and one day ago. */
async function filledCache(t: TestContext, keep: Partial<KeepLimits>) {
  const server = await startPackageServer(t);
  const dir = await scratchFolder(t);
  const cache = new PackageCache({ dir, repoUrl: server.url, platform: 'any', keep, env: {} });
  await cache.open();
  t.after(() => cache.close());
  for (const number of ['1', '2', '3']) {
    server.answer(`/p/${number}/any/p.tgz`, tarGz([{ path: 'p.o', content: number.repeat(1000) }]));
    await cache.ensure(version(number));
  }
  for (const name of await readdir(join(dir, 'refs'))) {
    const path = join(dir, 'refs', name);
    const record = await readRecord(path);
    const number = Number(/p\/(\d)\//.exec(record?.url ?? '')?.[1]);
    const usedAt = new Date(Date.now() - (4 - number) * DAY_MS);
    await utimes(path, usedAt, usedAt);
  }
  const versions = async () => {
    const names = await readdir(join(dir, 'refs'));
    const records = await Promise.all(names.map((name) => readRecord(join(dir, 'refs', name))));
    assert.equal((await readdir(join(dir, 'sha256'))).length, names.length, 'a folder for each record');
    return records.map((record) => /p\/(\d)\//.exec(record?.url ?? '')?.[1]).toSorted();
  };
  return { cache, versions };
}

test('unused packages are kept if they were used recently', async (t) => {
  const { cache, versions } = await filledCache(t, { unusedMs: 2.5 * DAY_MS });
  await cache.collect([]);
  assert.deepEqual(await versions(), ['2', '3']);
});

test('a package in use is kept whatever its age, and each use updates its time', async (t) => {
  const { cache, versions } = await filledCache(t, { unusedMs: 1.5 * DAY_MS });
  await cache.collect([version('1')]);
  assert.deepEqual(await versions(), ['1', '3']);
  await cache.ensure(version('1'));
  await cache.collect([]);
  assert.deepEqual(await versions(), ['1', '3']);
});

test('when the cache is too large, the least recently used packages are removed, but none in use', async (t) => {
  const { cache, versions } = await filledCache(t, { maxBytes: 2500 });
  await cache.collect([version('1')]);
  assert.deepEqual(await versions(), ['1', '3']);
});

test('a cache that is too small for the packages in use keeps only those', async (t) => {
  const { cache, versions } = await filledCache(t, { maxBytes: 500 });
  await cache.collect([version('1'), version('2')]);
  assert.deepEqual(await versions(), ['1', '2']);
});
