import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { PackageCache } from '../../src/packages/cache.js';
import { holdsFiles, readRecord } from '../../src/packages/record.js';
import { tarGz } from '../support/archives.js';
import { scratchFolder } from '../support/scratch.js';

const FILLER = join(import.meta.dirname, '..', 'integration', 'packages', 'cache-filler.js');
const VERSIONS = 12;

/** Lets a process fill a cache, and kills it after the given number of milliseconds. */
async function fillAndDie(dir: string, repoUrl: string, milliseconds: number): Promise<void> {
  const filler = spawn(process.execPath, [FILLER, dir, repoUrl, String(VERSIONS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(filler.stdout, 'data');
  await sleep(milliseconds);
  filler.kill('SIGKILL');
  await once(filler, 'close');
  assert.equal(filler.signalCode, 'SIGKILL');
}

it('after its process was killed, a package cache has no record without files, and the next process can use it', async (t) => {
  const repository = await scratchFolder(t);
  for (let version = 0; version < VERSIONS; version++) {
    const folder = join(repository, 'p', String(version), 'any');
    await mkdir(folder, { recursive: true });
    const files = ['a.o', 'b.o', 'c.o'].map((path) => ({ path, content: randomBytes(20_000) }));
    await writeFile(join(folder, 'p.tar.gz'), tarGz(files));
  }
  const repoUrl = pathToFileURL(repository).href;
  const dir = await scratchFolder(t);

  for (let kill = 0; kill < 15; kill++) {
    await fillAndDie(dir, repoUrl, kill * 7);

    for (const name of await readdir(join(dir, 'refs'))) {
      const record = await readRecord(join(dir, 'refs', name));
      assert.ok(record !== undefined, `${name} is torn`);
      assert.ok(await holdsFiles(join(dir, 'sha256', record.digest), record.files), `${name} came before its files`);
    }
  }

  const cache = new PackageCache({ dir, repoUrl, platform: 'any', env: {}, keep: { unusedMs: 0 } });
  await cache.open();
  const refs = Array.from({ length: VERSIONS }, (_, version) => {
    return { name: 'p', version: String(version), artifact: 'p.tar.gz', repoUrl: '' };
  });
  for (const ref of refs) await cache.ensure(ref);
  await cache.collect(refs);
  assert.deepEqual(await readdir(join(dir, 'tmp')), []);
  for (const kind of ['refs', 'sha256']) assert.equal((await readdir(join(dir, kind))).length, VERSIONS);
});
