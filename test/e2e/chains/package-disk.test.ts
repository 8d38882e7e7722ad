import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache } from '../../../src/packages/cache.js';
import { tarGz } from '../../support/archives.js';
import { startPackageServer } from '../../support/package-server.js';
import { rejectsWith } from '../../support/scratch.js';

/*
 * A package cache on a small disk of its own, which needs root.
 */

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af.tar.gz', repoUrl: '' };
const OBJECT = 'ratelimiting.bpf.o';

async function givenSmallDisk(t: TestContext) {
  const server = await startPackageServer(t);
  server.answer('/ratelimiting/1.0/any/l3af.tar.gz', tarGz([{ path: OBJECT, content: 'object' }]));
  const large = tarGz([
    { path: OBJECT, content: 'object' },
    { path: 'data', content: randomBytes(300_000) },
  ]);
  server.answer('/ratelimiting/2.0/any/l3af.tar.gz', large);
  const dir = await mkdtemp(join(tmpdir(), 'l3af-package-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=500k', 'l3af-cache', dir]);
  t.after(async () => {
    execFileSync('umount', [dir]);
    await rm(dir, { recursive: true });
  });
  const cache = new PackageCache({ dir, repoUrl: server.url, platform: 'any', env: {} });
  await cache.open();
  return { dir, server, cache };
}

test('a cached package is used when its disk has become read-only', async (t) => {
  const { dir, server, cache } = await givenSmallDisk(t);
  await cache.ensure(REF);
  const requests = server.requests.length;
  execFileSync('mount', ['-o', 'remount,ro', dir]);

  assert.equal(await readFile(await cache.objectPath(REF, OBJECT), 'utf8'), 'object');
  assert.equal(server.requests.length, requests);
  const refused = cache.ensure({ ...REF, version: '2.0' });
  assert.equal((await rejectsWith(refused, 'DISK_FAULT', /cache \S+ cannot be written: EROFS/)).transient, true);
});

test('when the disk gets full while a package is unpacked, nothing of it is left, and other packages stay', async (t) => {
  const { dir, cache } = await givenSmallDisk(t);
  await cache.ensure(REF);
  const before = await readdir(join(dir, 'sha256'));

  const refused = cache.ensure({ ...REF, version: '2.0' });
  assert.equal((await rejectsWith(refused, 'DISK_FULL', /cache \S+ cannot be written: ENOSPC/)).transient, true);

  assert.deepEqual(await readdir(join(dir, 'tmp')), []);
  assert.deepEqual(await readdir(join(dir, 'sha256')), before);
  assert.equal(await readFile(await cache.objectPath(REF, OBJECT), 'utf8'), 'object');
});
