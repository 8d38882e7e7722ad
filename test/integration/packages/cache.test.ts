import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache, type PackageCacheOptions } from '../../../src/packages/cache.js';
import { tarGz, zip } from '../../support/archives.js';
import { type PackageServer, startPackageServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

const REF = { name: 'ratelimiting', version: 'latest', artifact: 'l3af.tar.gz', repoUrl: '' };
const PATH = '/ratelimiting/latest/bookworm/l3af.tar.gz';
const OBJECT = 'ratelimiting.bpf.o';
const ARCHIVE = tarGz([
  { path: `l3af/${OBJECT}`, content: 'object' },
  { path: 'l3af/ratelimiting', content: 'companion', mode: 0o755 },
  { path: 'l3af/rules', content: 'rules' },
]);

interface Fixture {
  readonly dir: string;
  readonly server: PackageServer;
  readonly cache: PackageCache;
}

async function openCache(t: TestContext, options: Partial<PackageCacheOptions> = {}): Promise<Fixture> {
  const server = await startPackageServer(t);
  const dir = await scratchFolder(t);
  const fetch = { backoffMs: 1 };
  const cache = new PackageCache({ dir, repoUrl: server.url, platform: 'bookworm', fetch, ...options });
  await cache.open();
  t.after(() => cache.close());
  return { dir, server, cache };
}

/** How many requests there were for the artifact itself. */
function downloads(server: PackageServer, path = PATH): number {
  return server.requests.filter((request) => request === path).length;
}

test('a package is fetched only once, even with version latest, and its object file is found', async (t) => {
  const { dir, server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);

  const folder = await cache.ensure(REF);
  assert.equal(folder, join(dir, 'sha256', sha256(ARCHIVE)));
  assert.equal(await cache.objectPath(REF, OBJECT), join(folder, 'l3af', OBJECT));
  assert.equal(await readFile(join(folder, 'l3af', OBJECT), 'utf8'), 'object');
  assert.equal((await stat(join(folder, 'l3af/ratelimiting'))).mode & 0o777, 0o755);
  assert.equal(downloads(server), 1);
  assert.deepEqual(await readdir(join(dir, 'tmp')), []);
});

test('a reopened cache needs no server, and removes unfinished work', async (t) => {
  const { dir, server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);
  const folder = await cache.ensure(REF);
  await mkdir(join(dir, 'tmp', 'fetch-crashed'));
  await writeFile(join(dir, 'tmp', 'fetch-crashed', 'artifact'), 'half');

  const again = new PackageCache({ dir, repoUrl: server.url, platform: 'bookworm' });
  await again.open();
  assert.equal(await again.ensure(REF), folder);
  assert.equal(downloads(server), 1);
  assert.deepEqual(await readdir(join(dir, 'tmp')), []);
});

test('a record says where a package came from, without secrets', async (t) => {
  const server = await startPackageServer(t);
  const { dir, cache } = await openCache(t, { repoUrl: `${server.url}/?token=secret` });
  server.answer(`${PATH}?token=secret`, ARCHIVE);
  await cache.ensure(REF);
  const [name = ''] = await readdir(join(dir, 'refs'));
  const record = JSON.parse(await readFile(join(dir, 'refs', name), 'utf8'));
  assert.equal(record.url, `${server.url}${PATH}`);
  assert.equal(record.digest, sha256(ARCHIVE));
  assert.deepEqual(record.files[0], { path: `l3af/${OBJECT}`, size: 6, sha256: sha256('object'), executable: false });
});

test('a program with a repository of its own is fetched from there', async (t) => {
  const { server, cache } = await openCache(t, { repoUrl: undefined });
  server.answer(`/own${PATH}`, ARCHIVE);
  await cache.ensure({ ...REF, repoUrl: `${server.url}/own` });
  await rejectsWith(cache.ensure(REF), 'ARTIFACT_UNREACHABLE', /L3AF_REPO_URL/);
});

test('a package for any platform is used if there is none for this platform', async (t) => {
  const { server, cache } = await openCache(t);
  const any = PATH.replace('bookworm', 'any');
  server.answer(any, ARCHIVE);
  await cache.ensure(REF);
  assert.deepEqual(server.requests, [PATH, any, `${any}.sha256`]);
});

test('a missing package is reported with all URLs that were tried', async (t) => {
  const { server, cache } = await openCache(t);
  const error = await rejectsWith(cache.ensure(REF), 'ARTIFACT_NOT_FOUND', /bookworm\/l3af\.tar\.gz or .*any\/l3af/);
  assert.ok(error.message.includes(server.url));
});

test('an artifact name without an archive ending is refused without a request', async (t) => {
  const { server, cache } = await openCache(t);
  await rejectsWith(cache.ensure({ ...REF, artifact: OBJECT }), 'ARTIFACT_INVALID', /expected a name that ends in/);
  assert.deepEqual(server.requests, []);
});

test('a matching checksum is accepted in every format', async (t) => {
  const digest = sha256(ARCHIVE);
  const other = sha256('other');
  const forms = [
    digest,
    `${digest.toUpperCase()}\n`,
    `${digest}  l3af.tar.gz\n`,
    `${other}  other.tar.gz\n${digest} *dist/l3af.tar.gz\n`,
  ];
  for (const form of forms) {
    const { server, cache } = await openCache(t);
    server.answer(PATH, ARCHIVE);
    server.answer(`${PATH}.sha256`, form);
    await cache.ensure(REF);
  }
});

test('a wrong checksum is refused with both digests, and nothing is kept', async (t) => {
  const { dir, server, cache } = await openCache(t);
  const expected = sha256('what was meant');
  server.answer(PATH, ARCHIVE);
  server.answer(`${PATH}.sha256`, `${expected}  l3af.tar.gz\n`);
  const error = await rejectsWith(cache.ensure(REF), 'DIGEST_MISMATCH', new RegExp(expected));
  assert.ok(error.message.includes(sha256(ARCHIVE)));
  for (const folder of ['refs', 'sha256', 'tmp']) assert.deepEqual(await readdir(join(dir, folder)), []);
});

test('a checksum file that cannot be fetched does not count as absent', async (t) => {
  const { server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);
  server.answer(`${PATH}.sha256`, (_request, response) => response.writeHead(500).end());
  await rejectsWith(cache.ensure(REF), 'ARTIFACT_UNREACHABLE', /sha256 answered 500/);
});

test('a checksum file without a digest for the artifact is refused', async (t) => {
  for (const content of ['<html>hello</html>', `${sha256(ARCHIVE)}  another.tar.gz`, '']) {
    const { server, cache } = await openCache(t);
    server.answer(PATH, ARCHIVE);
    server.answer(`${PATH}.sha256`, content);
    await rejectsWith(cache.ensure(REF), 'ARTIFACT_INVALID', /holds no SHA-256 digest for l3af\.tar\.gz/);
  }
});

test('wrong content is refused, leaves nothing, and a corrected package is accepted later', async (t) => {
  const { dir, server, cache } = await openCache(t);
  server.answer(PATH, '<html>please log in</html>');
  await rejectsWith(cache.ensure(REF), 'ARTIFACT_INVALID', /l3af\.tar\.gz is refused/);
  for (const folder of ['refs', 'sha256', 'tmp']) assert.deepEqual(await readdir(join(dir, folder)), []);
  server.answer(PATH, ARCHIVE);
  await cache.ensure(REF);
});

test('two simultaneous requests share one download', async (t) => {
  const { server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);
  const [first, second, object] = await Promise.all([
    cache.ensure(REF),
    cache.ensure({ ...REF }),
    cache.objectPath(REF, OBJECT),
  ]);
  assert.equal(first, second);
  assert.equal(object, join(first, 'l3af', OBJECT));
  assert.equal(downloads(server), 1);
});

test('two simultaneous requests also share a failure, and the next request tries again', async (t) => {
  const { server, cache } = await openCache(t);
  const results = await Promise.allSettled([cache.ensure(REF), cache.ensure(REF)]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(downloads(server), 1);
  server.answer(PATH, ARCHIVE);
  await cache.ensure(REF);
});

test('two packages with the same artifact share a folder, even when fetched at the same time', async (t) => {
  const { dir, server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);
  server.answer(PATH.replace('latest', '1.0'), ARCHIVE);
  const [first, second] = await Promise.all([cache.ensure(REF), cache.ensure({ ...REF, version: '1.0' })]);
  assert.equal(first, second);
  assert.equal((await readdir(join(dir, 'refs'))).length, 2);
});

const ALTERATIONS: readonly [what: string, alter: (folder: string, dir: string) => Promise<void>][] = [
  ['the object file has other content of the same size', (folder) => writeFile(join(folder, 'l3af', OBJECT), 'tcejbo')],
  ['the companion has other content', (folder) => writeFile(join(folder, 'l3af/ratelimiting'), 'noinapmoc')],
  ['the companion is not executable', (folder) => chmod(join(folder, 'l3af/ratelimiting'), 0o644)],
  ['another file has grown', (folder) => appendFile(join(folder, 'l3af/rules'), '!')],
  ['a file is missing', (folder) => rm(join(folder, 'l3af/rules'))],
  ['the folder is missing', (folder) => rm(folder, { recursive: true })],
  ['the record is incomplete', (_folder, dir) => tearRecord(dir)],
];

async function tearRecord(dir: string): Promise<void> {
  const [name = ''] = await readdir(join(dir, 'refs'));
  await writeFile(join(dir, 'refs', name), '{"digest":"ab');
}

for (const [what, alter] of ALTERATIONS) {
  test(`a cached package is fetched again when ${what}`, async (t) => {
    const { dir, server, cache } = await openCache(t);
    server.answer(PATH, ARCHIVE);
    const folder = await cache.ensure(REF);
    await alter(folder, dir);

    assert.equal(await cache.ensure(REF), folder);
    assert.equal(downloads(server), 2);
    assert.equal(await readFile(join(folder, 'l3af', OBJECT), 'utf8'), 'object');
    assert.equal(await readFile(join(folder, 'l3af/ratelimiting'), 'utf8'), 'companion');
    assert.equal(await readFile(join(folder, 'l3af/rules'), 'utf8'), 'rules');
    assert.equal((await stat(join(folder, 'l3af/ratelimiting'))).mode & 0o777, 0o755);
    assert.deepEqual(await readdir(join(dir, 'tmp')), []);

    await cache.ensure(REF);
    assert.equal(downloads(server), 2);
  });
}

test('a file that a companion writes next to itself is harmless', async (t) => {
  const { server, cache } = await openCache(t);
  server.answer(PATH, ARCHIVE);
  const folder = await cache.ensure(REF);
  await writeFile(join(folder, 'l3af/companion.pid'), '4711');
  await cache.ensure(REF);
  assert.equal(downloads(server), 1);
});

test('an object file is also found at the top of an archive', async (t) => {
  const { server, cache } = await openCache(t);
  const ref = { ...REF, artifact: 'p.zip' };
  server.answer(PATH.replace('l3af.tar.gz', 'p.zip'), zip([{ path: OBJECT }, { path: 'doc/README' }]));
  assert.equal(await cache.objectPath(ref, OBJECT), join(await cache.ensure(ref), OBJECT));
});

test('a missing object file is reported with the files that exist', async (t) => {
  const { server, cache } = await openCache(t);
  const entries = Array.from({ length: 12 }, (_, index) => ({ path: `p/${index}.o` }));
  server.answer(PATH, tarGz(entries));
  const message = /no file "absent\.o"; it holds p\/0\.o, p\/1\.o, .*p\/9\.o and 2 more$/;
  await rejectsWith(cache.objectPath(REF, 'absent.o'), 'OBJECT_FILE_NOT_FOUND', message);
  await rejectsWith(cache.objectPath(REF, '../refs'), 'OBJECT_FILE_NOT_FOUND', /no file/);
});

test('if an archive has two top-level folders, neither is searched', async (t) => {
  const { server, cache } = await openCache(t);
  server.answer(PATH, tarGz([{ path: 'a/x.o' }, { path: 'b/y.o' }]));
  await rejectsWith(cache.objectPath(REF, 'x.o'), 'OBJECT_FILE_NOT_FOUND', /it holds a\/x\.o, b\/y\.o$/);
  assert.equal(await cache.objectPath(REF, 'a/x.o'), join(await cache.ensure(REF), 'a/x.o'));
});

test('collecting removes unused packages, but nothing that a kept package shares', async (t) => {
  const { dir, server, cache } = await openCache(t, { keep: { unusedMs: 0 } });
  const other = tarGz([{ path: 'other.o', content: 'other' }]);
  server.answer(PATH, ARCHIVE);
  server.answer(PATH.replace('latest', '1.0'), ARCHIVE);
  server.answer(PATH.replace('latest', '2.0'), other);
  const folder = await cache.ensure(REF);
  await cache.ensure({ ...REF, version: '1.0' });
  await cache.ensure({ ...REF, version: '2.0' });

  await cache.collect([REF]);
  assert.deepEqual(await readdir(join(dir, 'sha256')), [sha256(ARCHIVE)]);
  assert.equal((await readdir(join(dir, 'refs'))).length, 1);
  assert.equal(await cache.ensure(REF), folder);
  assert.equal(downloads(server), 1);

  await cache.collect([]);
  for (const kind of ['refs', 'sha256']) assert.deepEqual(await readdir(join(dir, kind)), []);
});

test('collecting keeps a package that is being requested', async (t) => {
  const { server, cache } = await openCache(t, { keep: { unusedMs: 0 } });
  server.answer(PATH, ARCHIVE);
  await cache.ensure(REF);
  const asking = cache.ensure(REF);
  await cache.collect([]);
  assert.equal(await readFile(join(await asking, 'l3af', OBJECT), 'utf8'), 'object');
});

test('closing aborts a running download', async (t) => {
  const { dir, server, cache } = await openCache(t);
  const asked = new Promise<void>((resolve) => server.answer(PATH, () => resolve()));
  const pending = rejectsWith(cache.ensure(REF), 'ARTIFACT_UNREACHABLE', /because the agent is stopping/);
  await asked;
  await cache.close();
  await pending;
  assert.deepEqual(await readdir(join(dir, 'tmp')), []);
});
