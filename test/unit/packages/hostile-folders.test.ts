import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { generateKeys } from '../../../src/packages/keys.js';
import { digestOf, packagesIn, pathOf, signStored, storeArchive } from '../../../src/packages/repository.js';
import { signPackage } from '../../../src/packages/signature.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

/*
 * A repository in a folder that others can write to, while packages are built and signed there.
 */

const ID = { name: 'p', version: '1.0', platform: 'any', artifact: 'p.tar.gz' };
const KEY = createPrivateKey(generateKeys().privateKey);

async function givenStored(t: TestContext, content = 'archive') {
  const scratch = await scratchFolder(t);
  const archive = join(scratch, 'archive');
  await writeFile(archive, content);
  const repository = join(scratch, 'repo');
  const digest = await storeArchive(archive, ID, repository);
  return { archive, repository, digest, place: join(repository, pathOf(ID)) };
}

test('folders that link to themselves do not hide or duplicate packages', async (t) => {
  const { repository } = await givenStored(t);
  for (const name of ['one', 'two', 'three']) await symlink('.', join(repository, name));
  for (const name of ['one', 'two', 'three']) await symlink('../..', join(repository, 'p/1.0', name));
  await symlink('1.0', join(repository, 'p/latest'));

  const found = (await packagesIn(repository)).map(pathOf);

  assert.deepEqual(found, ['p/1.0/any/p.tar.gz', 'p/latest/any/p.tar.gz']);
});

test('a directory, FIFO or link with the name of a package is no package, and blocks nothing', async (t) => {
  const { repository } = await givenStored(t);
  await mkdir(join(repository, 'q/1.0/any/q.tar.gz'), { recursive: true });
  await mkdir(join(repository, 'r/1.0/any'), { recursive: true });
  execFileSync('mkfifo', [join(repository, 'r/1.0/any/r.tar.gz')]);
  await symlink('nowhere', join(repository, 'r/1.0/any/s.tar.gz'));

  assert.deepEqual((await packagesIn(repository)).map(pathOf), ['p/1.0/any/p.tar.gz']);
  await rejectsWith(digestOf(join(repository, 'r/1.0/any/r.tar.gz')), 'ARTIFACT_NOT_FOUND', /is not a regular file/);
  await rejectsWith(digestOf(join(repository, 'q/1.0/any/q.tar.gz')), 'ARTIFACT_NOT_FOUND', /is not a regular file/);
});

test('a built package is signed before it can be fetched or changed', async (t) => {
  // given a target path that cannot be written
  const scratch = await scratchFolder(t);
  const place = join(scratch, 'repo', pathOf(ID));
  await mkdir(place, { recursive: true });
  await writeFile(join(scratch, 'archive'), 'archive');

  const stored = storeArchive(join(scratch, 'archive'), ID, join(scratch, 'repo'), KEY);
  await rejectsWith(stored, 'ARTIFACT_NOT_FOUND', /is not a regular file/);

  const signature = await readFile(`${place}.sig`, 'utf8');
  assert.equal(signature, `${signPackage({ ...ID, digest: sha256('archive') }, KEY)}\n`);
});

test('foreign signatures of any kind stay', async (t) => {
  const { repository, place, digest } = await givenStored(t);
  const other = createPrivateKey(generateKeys().privateKey);
  const first = Buffer.from(signPackage({ ...ID, digest }, other), 'base64');
  await writeFile(`${place}.sig`, first);
  await signStored(ID, repository, KEY);
  await signStored(ID, repository, KEY);
  const lines = [first.toString('base64'), signPackage({ ...ID, digest }, KEY)];
  assert.equal(await readFile(`${place}.sig`, 'utf8'), `${lines.join('\n')}\n`);

  await writeFile(`${place}.sig`, '-----BEGIN PGP SIGNATURE-----\n');
  await rejectsWith(
    signStored(ID, repository, KEY),
    'SIGNATURE_INVALID',
    /sig is not a signature file .* move it away/,
  );
  assert.equal(await readFile(`${place}.sig`, 'utf8'), '-----BEGIN PGP SIGNATURE-----\n');
});

test('a package that does not match its checksum file is not signed', async (t) => {
  const { repository, place } = await givenStored(t);
  await writeFile(place, 'swapped');

  await rejectsWith(signStored(ID, repository, KEY), 'DIGEST_MISMATCH', /p\/1\.0\/any\/p\.tar\.gz/);
  assert.deepEqual(await readdir(join(place, '..')), ['p.tar.gz', 'p.tar.gz.sha256']);
});

test('when different archives are stored at the same time, one is kept, with its own digest', async (t) => {
  for (let round = 0; round < 20; round++) {
    const scratch = await scratchFolder(t);
    const repository = join(scratch, 'repo');
    const contents = ['first', 'second', 'third'];
    const stored = await Promise.allSettled(
      contents.map(async (content) => {
        await writeFile(join(scratch, content), content);
        return storeArchive(join(scratch, content), ID, repository);
      }),
    );

    const content = await readFile(join(repository, pathOf(ID)), 'utf8');
    assert.equal(await readFile(join(repository, `${pathOf(ID)}.sha256`), 'utf8'), `${sha256(content)}  p.tar.gz\n`);
    assert.equal(stored.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.deepEqual(await readdir(join(repository, 'p/1.0/any')), ['p.tar.gz', 'p.tar.gz.sha256']);
  }
});

test('an artifact may have the longest name that a package can have', async (t) => {
  const scratch = await scratchFolder(t);
  await writeFile(join(scratch, 'archive'), 'archive');
  const id = { ...ID, artifact: `${'n'.repeat(241)}.tar.gz` };
  await storeArchive(join(scratch, 'archive'), id, join(scratch, 'repo'));
  await signStored(id, join(scratch, 'repo'), KEY);
  assert.deepEqual((await packagesIn(join(scratch, 'repo'))).map(pathOf), [pathOf(id)]);
});
