import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PackageCache } from '../../../src/packages/cache.js';
import { generateKeys, publicKeyText, readPrivateKey, readTrustedKeys } from '../../../src/packages/keys.js';
import { type SignaturePolicy, type Statement, signPackage } from '../../../src/packages/signature.js';
import { tarGz } from '../../support/archives.js';
import { type PackageServer, startPackageServer } from '../../support/package-server.js';
import { PROJECT_ROOT } from '../../support/project.js';
import { rejectsWith, scratchFolder, sha256 } from '../../support/scratch.js';

const REF = { name: 'ratelimiting', version: '1.0', artifact: 'l3af.tar.gz', repoUrl: '' };
const PATH = '/ratelimiting/1.0/bookworm/l3af.tar.gz';
const ARCHIVE = tarGz([{ path: 'l3af/ratelimiting.bpf.o', content: 'object' }]);
const STATEMENT: Statement = { ...REF, platform: 'bookworm', digest: sha256(ARCHIVE) };
const OURS = generateKeys();
const THEIRS = generateKeys();

function signed(changes: Partial<Statement> = {}, by = OURS): string {
  return signPackage({ ...STATEMENT, ...changes }, createPrivateKey(by.privateKey));
}

async function repository(t: TestContext, signature?: string | Buffer): Promise<PackageServer> {
  const server = await startPackageServer(t);
  server.answer(PATH, ARCHIVE);
  if (signature !== undefined) server.answer(`${PATH}.sig`, signature);
  return server;
}

async function cacheFor(
  t: TestContext,
  server: PackageServer,
  policy: SignaturePolicy,
  options: { readonly dir?: string; readonly trusted?: readonly string[] } = {},
): Promise<PackageCache> {
  const { dir = await scratchFolder(t), trusted = [OURS.publicKey] } = options;
  const signatures = { policy, keys: await readTrustedKeys(trusted) };
  const fetch = { backoffMs: 1 };
  const cache = new PackageCache({ dir, repoUrl: server.url, platform: 'bookworm', signatures, fetch, env: {} });
  await cache.open();
  t.after(() => cache.close());
  return cache;
}

test('a package signed by a trusted key is accepted, under every policy and in every format', async (t) => {
  for (const form of [`${signed()}\n`, Buffer.from(signed(), 'base64'), `${signed({}, THEIRS)}\n${signed()}`]) {
    for (const policy of ['if-present', 'required'] as const) {
      await (await cacheFor(t, await repository(t, form), policy)).ensure(REF);
    }
  }
});

test('a signature made with openssl as documented is accepted', async (t) => {
  const dir = await scratchFolder(t);
  await writeFile(join(dir, 'release.key'), OURS.privateKey);
  await writeFile(join(dir, REF.artifact), ARCHIVE);
  const documents = await readFile(join(PROJECT_ROOT, 'deploy', 'README.md'), 'utf8');
  const [, commands = ''] = /^```sh\n(\{ printf .*?)^```/ms.exec(documents) ?? [];
  const { name, version, artifact } = REF;
  const env = { ...process.env, name, version, platform: 'bookworm', artifact };
  execFileSync('sh', ['-eu', '-c', commands], { cwd: dir, env });

  const signature = await readFile(join(dir, `${artifact}.sig`));
  await (await cacheFor(t, await repository(t, signature), 'required')).ensure(REF);
});

test('an unsigned package is refused only if a signature is required', async (t) => {
  await (await cacheFor(t, await repository(t), 'if-present')).ensure(REF);
  const refused = (await cacheFor(t, await repository(t), 'required')).ensure(REF);
  await rejectsWith(refused, 'SIGNATURE_MISSING', /ratelimiting 1\.0 is not signed/);
});

const WRONG: readonly [what: string, signature: () => string][] = [
  ['by another key', () => signed({}, THEIRS)],
  ['of another package', () => signed({ name: 'other' })],
  ['of another version', () => signed({ version: '0.9' })],
  ['for another platform', () => signed({ platform: 'any' })],
  ['of another artifact', () => signed({ artifact: 'other.tar.gz' })],
  ['of other content', () => signed({ digest: sha256('other') })],
  ['that is not a signature', () => 'not a signature'],
];

for (const [what, signature] of WRONG) {
  test(`a signature ${what} is refused before anything is unpacked`, async (t) => {
    for (const policy of ['if-present', 'required'] as const) {
      const cache = await cacheFor(t, await repository(t, signature()), policy);
      await rejectsWith(cache.ensure(REF), 'SIGNATURE_INVALID', /signature/);
    }
  });
}

test('signatures are not fetched if the policy is off', async (t) => {
  const server = await repository(t, 'not a signature');
  await (await cacheFor(t, server, 'off')).ensure(REF);
  assert.ok(!server.requests.includes(`${PATH}.sig`));
});

test('a signature that cannot be fetched now does not count as missing', async (t) => {
  const server = await repository(t);
  server.answer(`${PATH}.sig`, (_request, response) => response.writeHead(503).end());
  const cache = await cacheFor(t, server, 'if-present');
  const error = await rejectsWith(cache.ensure(REF), 'ARTIFACT_UNREACHABLE', /sig answered 503/);
  assert.equal(error.transient, true);
});

test('a cached package is checked against the current policy, without the server if its signature is known', async (t) => {
  // given a package that was cached while signatures were not checked
  const dir = await scratchFolder(t);
  const server = await repository(t);
  await (await cacheFor(t, server, 'off', { dir })).ensure(REF);

  // then it is refused once a signature is required, and accepted after it is signed
  const strict = await cacheFor(t, server, 'required', { dir });
  await rejectsWith(strict.ensure(REF), 'SIGNATURE_MISSING', /not signed/);
  server.answer(`${PATH}.sig`, signed());
  await strict.ensure(REF);

  // and after that it needs no server, unless its key is no longer trusted
  const requests = server.requests.length;
  await (await cacheFor(t, server, 'required', { dir })).ensure(REF);
  assert.equal(server.requests.length, requests);
  const distrusting = await cacheFor(t, server, 'required', { dir, trusted: [THEIRS.publicKey] });
  await rejectsWith(distrusting.ensure(REF), 'SIGNATURE_INVALID', /not made with any of the 1 trusted keys/);
});

test('the digest in the payload takes precedence over the checksum file', async (t) => {
  const server = await repository(t);
  server.answer(`${PATH}.sha256`, sha256('other'));
  const cache = await cacheFor(t, server, 'off');
  await cache.ensure({ ...REF, sha256: sha256(ARCHIVE) });
  await rejectsWith(cache.ensure({ ...REF, sha256: sha256('other') }), 'DIGEST_MISMATCH', /but the program says/);
});

test('keys are read from files, with comments, and from the text itself', async (t) => {
  const path = join(await scratchFolder(t), 'keys');
  await writeFile(path, `# release\n${OURS.publicKey}\n\n${THEIRS.publicKey}\n`);
  const keys = await readTrustedKeys([path, OURS.publicKey]);
  assert.deepEqual(
    keys.map(({ text }) => text),
    [OURS.publicKey, THEIRS.publicKey, OURS.publicKey],
  );
});

test('a file without a key is refused with its name', async (t) => {
  const path = join(await scratchFolder(t), 'keys');
  await rejectsWith(readTrustedKeys([path]), 'CONFIG_INVALID', /keys cannot be read/);
  for (const content of ['', '# nothing\n', 'abc\n', OURS.privateKey]) {
    await writeFile(path, content);
    await rejectsWith(readTrustedKeys([path]), 'CONFIG_INVALID', /public key/);
  }
  await writeFile(path, OURS.publicKey);
  await rejectsWith(readPrivateKey(path), 'CONFIG_INVALID', /no ed25519 private key/);
  await writeFile(path, OURS.privateKey);
  assert.equal(publicKeyText(await readPrivateKey(path)), OURS.publicKey);
  assert.match(await readFile(path, 'utf8'), /PRIVATE KEY/);
});
