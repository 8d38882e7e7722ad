import assert from 'node:assert/strict';
import { chmod, link, mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { buildArchive } from '../../../src/packages/build.js';
import { UNPACK_LIMITS } from '../../../src/packages/limits.js';
import { packageAt, packagesIn, pathOf, storeArchive } from '../../../src/packages/repository.js';
import { unpack } from '../../../src/packages/unpack.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

const ID = { name: 'p', version: '1.0', platform: 'any', artifact: 'p.tar.gz' };

/** A folder with an object, a program, and a name that the archiver could mistake for an option. */
async function contentIn(t: TestContext): Promise<string> {
  const folder = join(await scratchFolder(t), 'content');
  await mkdir(join(folder, 'bin'), { recursive: true });
  await writeFile(join(folder, 'p.bpf.o'), 'object');
  await writeFile(join(folder, 'bin/companion'), '#!/bin/sh\n', { mode: 0o700 });
  await link(join(folder, 'p.bpf.o'), join(folder, '@p.bpf.o'));
  return folder;
}

async function built(t: TestContext, folder: string): Promise<Buffer> {
  const path = join(await scratchFolder(t), 'p.tar.gz');
  await buildArchive(folder, 'p', path);
  return readFile(path);
}

test('the same content gives the same package, for all times, owners and masks', async (t) => {
  const folder = await contentIn(t);
  const first = await built(t, folder);
  await chmod(join(folder, 'p.bpf.o'), 0o600);
  await chmod(join(folder, 'bin/companion'), 0o755);
  await utimes(join(folder, 'p.bpf.o'), new Date(5000), new Date(5000));
  assert.ok(first.equals(await built(t, folder)));
  assert.ok(first.equals(await built(t, await contentIn(t))));
  await writeFile(join(folder, 'p.bpf.o'), 'tcejbo');
  assert.ok(!first.equals(await built(t, folder)));
});

test('agents accept the built package, with executable bits', async (t) => {
  const bytes = await built(t, await contentIn(t));
  const scratch = await scratchFolder(t);
  const path = join(scratch, 'p.tar.gz');
  await writeFile(path, bytes);
  const archive = { path, digest: sha256(bytes), size: bytes.length };
  const files = await unpack('p.tar.gz', archive, join(scratch, 'content'), UNPACK_LIMITS);
  assert.deepEqual(
    files.map((file) => [file.path, file.executable]),
    [
      ['p/@p.bpf.o', false],
      ['p/bin/companion', true],
      ['p/p.bpf.o', false],
    ],
  );
});

test('links and empty folders are refused, not left out', async (t) => {
  const folder = await contentIn(t);
  await symlink('p.bpf.o', join(folder, 'latest.bpf.o'));
  await rejectsWith(built(t, folder), 'ARTIFACT_INVALID', /latest\.bpf\.o is neither a file nor a folder/);
  await rejectsWith(built(t, await scratchFolder(t)), 'ARTIFACT_INVALID', /holds no files/);
  await rejectsWith(built(t, join(folder, 'absent')), 'ARTIFACT_INVALID', /cannot be packed/);
});

test('a stored version keeps its content', async (t) => {
  const scratch = await scratchFolder(t);
  const repository = join(scratch, 'repo');
  const archive = join(scratch, 'archive');
  await writeFile(archive, 'first');
  assert.equal(await storeArchive(archive, ID, repository), sha256('first'));
  await storeArchive(archive, ID, repository);
  await writeFile(archive, 'second');
  await rejectsWith(
    storeArchive(archive, ID, repository),
    'ARTIFACT_INVALID',
    /p\/1\.0\/any\/p\.tar\.gz is already in .*/,
  );

  assert.equal(await readFile(join(repository, pathOf(ID)), 'utf8'), 'first');
  assert.deepEqual(await readdir(join(repository, 'p/1.0/any')), ['p.tar.gz', 'p.tar.gz.sha256']);
  assert.equal(await readFile(join(repository, `${pathOf(ID)}.sha256`), 'utf8'), `${sha256('first')}  p.tar.gz\n`);
});

test('packages are distinguished from other files in a folder', async (t) => {
  const repository = await scratchFolder(t);
  for (const path of ['b/2/any/b.zip', 'a/1/bookworm/a.tgz', 'a/1/bookworm/a.tgz.sig', 'a/1/README', 'index.html']) {
    await mkdir(join(repository, path, '..'), { recursive: true });
    await writeFile(join(repository, path), '');
  }
  assert.deepEqual((await packagesIn(repository)).map(pathOf), ['a/1/bookworm/a.tgz', 'b/2/any/b.zip']);
  await rejectsWith(packagesIn(join(repository, 'absent')), 'ARTIFACT_UNREACHABLE', /cannot be read/);
  for (const path of ['../1/any/a.tgz', 'a/../any/a.tgz', 'a/1/any/b/a.tgz', 'a/1/any/a.bpf.o', 'a/1/any/..tgz']) {
    assert.equal(packageAt(path), undefined, path);
  }
});
