import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadConfig } from '../../../src/config.js';
import { PackageCache, type PackageCacheOptions } from '../../../src/packages/cache.js';
import { FETCH_LIMITS } from '../../../src/packages/limits.js';
import { tarGz } from '../../support/archives.js';
import { type PackageServer, startPackageServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

/*
 * l3afd defect 24: a time-out that overflows, no size limit, no digest, and "the folder exists" taken as "installed".
 */

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af.tar.gz', repoUrl: '' };
const PATH = '/ratelimiting/1.0/bookworm/l3af.tar.gz';
const ARCHIVE = tarGz([{ path: 'l3af/ratelimiting.bpf.o', content: 'object' }]);

async function open(t: TestContext, fetch: PackageCacheOptions['fetch'] = {}) {
  const server: PackageServer = await startPackageServer(t);
  const dir = await scratchFolder(t);
  const options = { dir, repoUrl: server.url, platform: 'bookworm', fetch: { backoffMs: 1, ...fetch } };
  const cache = new PackageCache(options);
  await cache.open();
  t.after(() => cache.close());
  return { server, dir, cache };
}

test('l3afd defect 24: a time-out overflows and has no effect', async (t) => {
  // Above 2^31 ms a timer of Node.js fires at once, and a duration in Go becomes negative. Neither value can be
  // reached.
  const longest = 2 ** 31 - 1;
  assert.ok(FETCH_LIMITS.totalMs > 0 && FETCH_LIMITS.totalMs <= longest);
  assert.ok(FETCH_LIMITS.idleMs > 0 && FETCH_LIMITS.idleMs <= longest);
  assert.throws(() => loadConfig({ flags: { reconcileInterval: '9223372037s' }, env: {} }), /between 100ms and 24h/);

  const { server, cache } = await open(t, { idleMs: 200, totalMs: 1_000 });
  server.answer(PATH, () => undefined);
  const error = await rejectsWith(cache.ensure(REF), 'ARTIFACT_UNREACHABLE', /./);
  assert.equal(error.transient, true);
});

test('l3afd defect 24: no size limit', async (t) => {
  const { server, cache } = await open(t, { maxBytes: 1_000 });
  server.answer(PATH, (_request, response) => {
    const more = () => void (response.write(Buffer.alloc(4_096)) && setImmediate(more));
    more();
  });
  await rejectsWith(cache.ensure(REF), 'ARTIFACT_TOO_LARGE', /./);
});

test('l3afd defect 24: no digest', async (t) => {
  const { server, cache } = await open(t);
  server.answer(PATH, ARCHIVE);
  await rejectsWith(cache.ensure({ ...REF, sha256: sha256('what was meant') }), 'DIGEST_MISMATCH', /./);
  await cache.ensure({ ...REF, sha256: sha256(ARCHIVE) });
});

test('l3afd defect 24: "the folder exists" is taken as "installed"', async (t) => {
  // given an empty folder of a package, left by a crash
  const { server, dir, cache } = await open(t);
  server.answer(PATH, ARCHIVE);
  await mkdir(join(dir, 'sha256', sha256(ARCHIVE)), { recursive: true });

  const path = await cache.objectPath(REF, 'ratelimiting.bpf.o').catch(async () => {
    await cache.ensure(REF);
    return cache.objectPath(REF, 'ratelimiting.bpf.o');
  });

  assert.equal(await readFile(path, 'utf8'), 'object');
  assert.equal(dirname(dirname(path)), join(dir, 'sha256', sha256(ARCHIVE)));
});
