import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { shell } from '../../support/l3afctl.js';
import { runSync } from '../../support/tool.js';

/* The commands for keys and repositories in folders. */

describe('l3afctl package', () => {
  let dir: string;
  const run = (words: string) => shell(`l3afctl package ${words}`, { natsUrl: 'nats://127.0.0.1:1', cwd: dir });

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'l3af-ctl-package-'));
    await mkdir(join(dir, 'content'));
    await writeFile(join(dir, 'content/p.bpf.o'), 'object');
    assert.equal((await run('keygen release.key')).code, 0);
    assert.equal((await run('build content p 1.0 --repo repo --key release.key')).code, 0);
  });

  after(() => rm(dir, { recursive: true }));

  it('creates a private key that only its owner can read', async () => {
    const { code } = await shell('umask 0; l3afctl package keygen open.key', {
      natsUrl: 'nats://127.0.0.1:1',
      cwd: dir,
    });
    assert.equal(code, 0);
    assert.equal((await stat(join(dir, 'open.key'))).mode & 0o777, 0o600);
  });

  it('never overwrites a key, and leaves no incomplete pair', async () => {
    const before = await readFile(join(dir, 'release.key'));
    await symlink('target', join(dir, 'linked.key'));
    await writeFile(join(dir, 'half.key.pub'), 'somebody else');
    for (const file of ['release.key', 'linked.key', 'half.key', 'absent/release.key']) {
      const { error, code } = await run(`keygen ${file}`);
      assert.equal(code, 2, file);
      assert.match(error, /The keys cannot be written: /);
    }
    assert.deepEqual(await readFile(join(dir, 'release.key')), before);
    assert.equal(await readFile(join(dir, 'half.key.pub'), 'utf8'), 'somebody else');
    const names = await readdir(dir);
    for (const name of ['half.key', 'target', 'linked.key.pub']) assert.ok(!names.includes(name), name);
  });

  it('says what is wrong with a key that it cannot sign with', async () => {
    const openssl = (...args: string[]) => runSync('openssl', args, { cwd: dir });
    openssl('pkcs8', '-topk8', '-in', 'release.key', '-out', 'encrypted.key', '-passout', 'pass:word');
    openssl('genpkey', '-algorithm', 'X25519', '-out', 'other.key');
    for (const [file, words] of [
      ['encrypted.key', /encrypted\.key is encrypted; .*openssl pkey/],
      ['other.key', /other\.key holds no ed25519 private key/],
      ['release.key.pub', /release\.key\.pub holds no ed25519 private key/],
      ['content', /content cannot be read: EISDIR/],
    ] as const) {
      const { error, code } = await run(`sign p --repo repo --key ${file}`);
      assert.match(error, words);
      assert.equal(code, 2);
    }
  });

  it('verifies exactly the named package, and not the one for any platform instead', async () => {
    const { error, code } = await run('verify p/1.0/bookworm/p.tar.gz --repo repo --trust release.key.pub');
    assert.equal(code, 1);
    assert.match(
      error,
      /no p\/1\.0\/bookworm\/p\.tar\.gz in the repository; agents on bookworm would use file:\S+\/any\/p\.tar\.gz/,
    );
  });
});
