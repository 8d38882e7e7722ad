import assert from 'node:assert/strict';
import { readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache } from '../../../src/packages/cache.js';
import { UNPACK_LIMITS } from '../../../src/packages/limits.js';
import { unpack } from '../../../src/packages/unpack.js';
import { paxHeader, tarGz, zip } from '../../support/archives.js';
import { startPackageServer } from '../../support/package-server.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';
import { until } from '../../support/until.js';

/*
 * Damage to the cache while the agent runs, and what refused archives leave open in the process.
 */

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af.tar.gz', repoUrl: '' };
const PATH = '/ratelimiting/1.0/bookworm/l3af.tar.gz';
const ARCHIVE = tarGz([
  { path: 'l3af/ratelimiting.elf', content: 'object' },
  { path: 'l3af/rules', content: 'rules' },
]);

async function openCache(t: TestContext) {
  const server = await startPackageServer(t);
  server.answer(PATH, ARCHIVE);
  const dir = await scratchFolder(t);
  const cache = new PackageCache({ dir, repoUrl: server.url, platform: 'bookworm', env: {} });
  await cache.open();
  return { dir, server, cache };
}

function downloads(requests: readonly string[]): number {
  return requests.filter((path) => path === PATH).length;
}

test('an object file is checked before each load, whatever its name', async (t) => {
  const { server, cache } = await openCache(t);
  const path = await cache.objectPath(REF, 'ratelimiting.elf');
  await writeFile(path, 'tcejbo');

  assert.equal(await readFile(await cache.objectPath(REF, 'ratelimiting.elf'), 'utf8'), 'object');
  assert.equal(downloads(server.requests), 2);
});

test('a cache that is removed while the agent runs is created again', async (t) => {
  const { dir, cache } = await openCache(t);
  await cache.ensure(REF);
  await rm(dir, { recursive: true });

  await cache.collect([REF]);
  assert.equal(await readFile(await cache.objectPath(REF, 'ratelimiting.elf'), 'utf8'), 'object');
});

async function refusalOf(t: TestContext, artifact: string, bytes: Buffer) {
  const scratch = await scratchFolder(t);
  const path = join(scratch, 'artifact');
  await writeFile(path, bytes);
  const archive = { path, digest: sha256(bytes), size: bytes.length };
  return unpack(artifact, archive, join(scratch, 'content'), UNPACK_LIMITS);
}

/** The files in temporary folders that this process has open. */
async function openFiles(): Promise<string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(links)).filter((path) => path.includes('l3af-packages-'));
}

test('refused archives leave no open files', async (t) => {
  const content = Buffer.alloc(300_000, 'content ');
  const parts = [{ path: 'a', content }, { path: '../x' }];
  const many: [string, Buffer][] = [
    ['p.tar.gz', tarGz(parts)],
    ['p.tar.gz', tarGz([{ path: 'a', content }]).subarray(0, 300)],
    [
      'p.zip',
      zip([
        { path: 'a', content },
        { path: 'b', mode: 0o120777 },
      ]),
    ],
    ['p.zip', zip([{ path: 'a', content, statedCrc: 1 }])],
    ['p.zip', zip([{ path: 'a', content, method: 8 }])],
    ['p.zip', zip([{ path: 'a', content }, { path: 'a' }])],
    ['p.zip', zip([{ path: 'a', content }]).subarray(0, -10)],
    ['p.zip', zip([{ path: 'a', content, statedSize: 2 }])],
  ];
  for (const [artifact, bytes] of many) {
    await rejectsWith(refusalOf(t, artifact, bytes), 'ARTIFACT_INVALID', /is refused/);
  }
  await until('the files to be closed', async () => (await openFiles()).length === 0);
});

test('repeated entries for one folder count towards the limit', async (t) => {
  const folders = Array.from({ length: 1500 }, () => ({ path: './', type: '5' }));
  const tarred = refusalOf(t, 'p.tar.gz', tarGz([...folders, { path: 'a' }]));
  await rejectsWith(tarred, 'ARTIFACT_TOO_LARGE', /more than 1000 files and folders/);
  const zipped = zip([...folders.map(() => ({ path: 'a/', mode: 0 })), { path: 'b' }]);
  await rejectsWith(refusalOf(t, 'p.zip', zipped), 'ARTIFACT_TOO_LARGE', /more than 1000 files and folders/);
});

const SIZES = ['-1', '1e999', '0.5', 'NaN', '0x10', '9007199254740993', ''];

for (const size of SIZES) {
  test(`a pax size of ${JSON.stringify(size)} ends as a package or a refusal`, async (t) => {
    const bytes = tarGz([
      paxHeader('size', size),
      { path: 'a', content: 'x'.repeat(700) },
      { path: 'b', content: 'y' },
    ]);
    await refusalOf(t, 'p.tar.gz', bytes).then(
      (files) =>
        assert.deepEqual(
          files.map(({ path }) => path),
          ['a', 'b'],
        ),
      (error) => assert.ok(['ARTIFACT_INVALID', 'ARTIFACT_TOO_LARGE'].includes(error.code), error),
    );
  });
}
