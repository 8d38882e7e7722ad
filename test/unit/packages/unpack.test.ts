import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { UNPACK_LIMITS, type UnpackLimits } from '../../../src/packages/limits.js';
import { type PackageFile, unpack } from '../../../src/packages/unpack.js';
import { tar, tarGz, zip } from '../../support/archives.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

interface Unpacked {
  readonly folder: string;
  readonly files: readonly PackageFile[];
}

async function unpackBytes(
  t: TestContext,
  artifact: string,
  bytes: Buffer,
  limits: Partial<UnpackLimits> = {},
): Promise<Unpacked> {
  const scratch = await scratchFolder(t);
  const path = join(scratch, 'artifact');
  await writeFile(path, bytes);
  const archive = { path, digest: sha256(bytes), size: bytes.length };
  const folder = join(scratch, 'content');
  return { folder, files: await unpack(artifact, archive, folder, { ...UNPACK_LIMITS, ...limits }) };
}

const CONTENT = 'an object file, so to speak';

test('a tar archive as `tar czf p.tar.gz .` writes it is unpacked', async (t) => {
  const archive = tarGz([
    { path: './', type: '5', mode: 0o755 },
    { path: './prog.bpf.o', content: CONTENT, mode: 0o600 },
    { path: './bin/', type: '5', mode: 0o700 },
    { path: './bin/companion', content: '#!/bin/sh\n', mode: 0o750 },
  ]);
  const { folder, files } = await unpackBytes(t, 'p.tar.gz', archive);

  assert.deepEqual(files, [
    { path: 'prog.bpf.o', size: CONTENT.length, sha256: sha256(CONTENT), executable: false },
    { path: 'bin/companion', size: 10, sha256: sha256('#!/bin/sh\n'), executable: true },
  ]);
  assert.equal(await readFile(join(folder, 'prog.bpf.o'), 'utf8'), CONTENT);
  assert.equal((await stat(join(folder, 'prog.bpf.o'))).mode & 0o7777, 0o644);
  assert.equal((await stat(join(folder, 'bin/companion'))).mode & 0o7777, 0o755);
});

test('a file of many chunks is unpacked completely, next to an empty one', async (t) => {
  const large = Buffer.alloc(300_000, 'many different words ');
  for (let i = 0; i < large.length; i += 97) large[i] = i % 251;
  const entries = [{ path: 'empty' }, { path: 'large', content: large }, { path: 'after', content: 'x' }];
  for (const [name, bytes] of [['p.tgz', tarGz(entries)] as const, ['p.zip', zip(entries)] as const]) {
    const { folder, files } = await unpackBytes(t, name, bytes);
    assert.deepEqual(
      files.map(({ path, size }) => [path, size]),
      [
        ['empty', 0],
        ['large', large.length],
        ['after', 1],
      ],
    );
    assert.ok(large.equals(await readFile(join(folder, 'large'))), name);
  }
});

test('a zip archive is unpacked, with its executable bits', async (t) => {
  const archive = zip([
    { path: 'p/', mode: 0o040755 },
    { path: 'p/prog.bpf.o', content: CONTENT, mode: 0o100640 },
    { path: 'p/companion', content: 'x', mode: 0o100755 },
    { path: 'p/from-elsewhere', content: 'y', mode: 0 },
  ]);
  const { folder, files } = await unpackBytes(t, 'p.zip', archive);
  assert.deepEqual(
    files.map(({ path, executable }) => [path, executable]),
    [
      ['p/prog.bpf.o', false],
      ['p/companion', true],
      ['p/from-elsewhere', false],
    ],
  );
  assert.equal((await stat(join(folder, 'p/companion'))).mode & 0o7777, 0o755);
});

test('a deflated zip entry is inflated', async (t) => {
  const packed = deflateRawSync(CONTENT);
  const entry = { path: 'a.o', content: packed, method: 8, statedSize: CONTENT.length, statedCrc: crc32(CONTENT) };
  const { folder } = await unpackBytes(t, 'p.zip', zip([entry]));
  assert.equal(await readFile(join(folder, 'a.o'), 'utf8'), CONTENT);
});

test('an archive in several gzip members, padded with zeros, is unpacked as one', async (t) => {
  const bytes = tar([{ path: 'a', content: CONTENT }]);
  const parts = [gzipSync(bytes.subarray(0, 700)), gzipSync(bytes.subarray(700)), Buffer.alloc(70_000)];
  const { folder } = await unpackBytes(t, 'p.tar.gz', Buffer.concat(parts));
  assert.equal(await readFile(join(folder, 'a'), 'utf8'), CONTENT);
});

test('an artifact that is no archive is refused, and the error names the allowed endings', async (t) => {
  for (const artifact of ['prog.bpf.o', 'p.tar', 'p.tar.xz', '.zip', 'p.tar.gz.exe']) {
    const message = /expected a name that ends in \.tar\.gz, \.tgz, \.zip/;
    await rejectsWith(unpackBytes(t, artifact, tarGz([{ path: 'a' }])), 'ARTIFACT_INVALID', message);
  }
});

test('limits on entries count files and folders, including folders that only a path implies', async (t) => {
  const deep = { path: 'a/b/c/d/file' };
  const { files } = await unpackBytes(t, 'p.tgz', tarGz([deep]), { maxEntries: 5 });
  assert.equal(files.length, 1);
  const refused = unpackBytes(t, 'p.tgz', tarGz([deep, { path: 'one-more' }]), { maxEntries: 5 });
  await rejectsWith(refused, 'ARTIFACT_TOO_LARGE', /more than 5 files and folders/);
  const zipped = unpackBytes(t, 'p.zip', zip([deep, { path: 'one-more' }]), { maxEntries: 5 });
  await rejectsWith(zipped, 'ARTIFACT_TOO_LARGE', /more than 5 files and folders/);
});

test('an archive with too much content is refused before it is written to disk', async (t) => {
  const content = Buffer.alloc(100_000, 'x');
  const tooMuch = /unpacks to more than 50000 bytes/;
  const tarred = unpackBytes(t, 'p.tar.gz', tarGz([{ path: 'a', content }]), { maxBytes: 50_000 });
  await rejectsWith(tarred, 'ARTIFACT_TOO_LARGE', tooMuch);
  const zipped = unpackBytes(t, 'p.zip', zip([{ path: 'a', content }]), { maxBytes: 50_000 });
  await rejectsWith(zipped, 'ARTIFACT_TOO_LARGE', tooMuch);
});

test('a bomb is refused by its ratio, and so is a bomb behind the end of the archive', async (t) => {
  const zeros = Buffer.alloc(4 * 1024 * 1024);
  const ratio = /more than 200 times its size/;
  await rejectsWith(unpackBytes(t, 'p.tgz', tarGz([{ path: 'a', content: zeros }])), 'ARTIFACT_TOO_LARGE', ratio);
  const hidden = gzipSync(Buffer.concat([tar([{ path: 'a', content: 'x' }]), zeros]));
  await rejectsWith(unpackBytes(t, 'p.tgz', hidden), 'ARTIFACT_TOO_LARGE', ratio);
  const entry = { path: 'a', content: deflateRawSync(zeros), method: 8, statedSize: zeros.length };
  await rejectsWith(unpackBytes(t, 'p.zip', zip([entry])), 'ARTIFACT_TOO_LARGE', ratio);
});

test('a refused archive has written only inside its folder', async (t) => {
  const scratch = await scratchFolder(t);
  const bytes = tarGz([
    { path: 'fine', content: 'x' },
    { path: '../escaped', content: 'y' },
  ]);
  const path = join(scratch, 'artifact');
  await writeFile(path, bytes);
  const archive = { path, digest: sha256(bytes), size: bytes.length };
  await rejectsWith(
    unpack('p.tgz', archive, join(scratch, 'content'), UNPACK_LIMITS),
    'ARTIFACT_INVALID',
    /leads out of the package/,
  );
  assert.deepEqual((await readdir(scratch)).toSorted(), ['artifact', 'content']);
  assert.deepEqual(await readdir(join(scratch, 'content')), ['fine']);
});

test('a fault of this host is not blamed on the archive', async (t) => {
  const scratch = await scratchFolder(t);
  const bytes = tarGz([{ path: 'a' }]);
  const path = join(scratch, 'artifact');
  await writeFile(path, bytes);
  const archive = { path, digest: sha256(bytes), size: bytes.length };
  await assert.rejects(unpack('p.tgz', archive, join(scratch, 'absent', 'content'), UNPACK_LIMITS), { code: 'ENOENT' });
});
