import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { connect, type NatsConnection } from 'nats';
import { type Bus, connectBus } from '../../../src/bus/connect.js';
import { openStoredObject } from '../../../src/bus/objects.js';
import { AgentError } from '../../../src/errors.js';
import { PackageCache } from '../../../src/packages/cache.js';
import type { ObjectStores } from '../../../src/packages/object-store.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { L3AFCTL } from '../../support/project.js';
import { collectLog } from './fixture.js';

const REF = { name: 'port-drop', version: '1.0', artifact: 'port-drop.tar.gz', repoUrl: 'nats://' };
const PATH = 'port-drop/1.0/any/port-drop.tar.gz';
/** Larger than one chunk of an object store, which has 128 KiB, and not compressible. */
const OBJECT = randomBytes(300_000);
const NEVER = new AbortController().signal;

describe('packages on the bus', () => {
  let server: TestServer;
  let bus: Bus;
  let nc: NatsConnection;
  let dir: string;
  let repo: string;

  async function l3afctl(...args: readonly string[]) {
    const env = { PATH: '', TMPDIR: dir, L3AF_NATS_URL: server.url };
    const child = spawn(process.execPath, [L3AFCTL, 'package', ...args], { env });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    return { out, error, code };
  }

  async function cacheOf(folder: string): Promise<PackageCache> {
    const objects: ObjectStores = { open: (...object) => openStoredObject(bus, ...object) };
    const fetch = { backoffMs: 1, tries: 2 };
    const cache = new PackageCache({
      dir: join(dir, folder),
      repoUrl: undefined,
      platform: 'bookworm',
      objects,
      fetch,
    });
    await cache.open();
    return cache;
  }

  before(async () => {
    server = await startNats();
    bus = await connectBus({ servers: [server.url], name: 'agent' }, collectLog());
    nc = await connect({ servers: server.url });
    dir = await mkdtemp(join(tmpdir(), 'l3af-bus-packages-'));
    repo = join(dir, 'repo');
    const content = join(dir, 'content');
    await mkdir(content);
    await writeFile(join(content, 'port_drop.bpf.o'), OBJECT);
    assert.equal((await l3afctl('keygen', join(dir, 'key'))).code, 0);
    const built = await l3afctl('build', content, 'port-drop', '1.0', '--repo', repo, '--key', join(dir, 'key'));
    assert.equal(built.code, 0, built.error);
  });

  after(async () => {
    await nc.close();
    await bus.close();
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('do not exist before there is a store, and only push creates one', async () => {
    const cache = await cacheOf('before');

    const failure = await cache.ensure(REF).catch((error: unknown) => error);

    assert.ok(failure instanceof AgentError);
    assert.deepEqual([failure.code, failure.transient], ['ARTIFACT_NOT_FOUND', false]);
    const { out, error, code } = await l3afctl('list', '--repo', 'nats://', '-o', 'json');
    assert.deepEqual([out, code], ['', 1]);
    assert.match(
      error,
      /^l3afctl package list: There is no object store L3AF_PACKAGES on this server; .*push creates it\n$/,
    );
    await assert.rejects((await nc.jetstreamManager()).streams.info('OBJ_L3AF_PACKAGES'), /not found/);
  });

  it('are pushed once, with the files beside them, and without progress output on a pipe', async () => {
    const first = await l3afctl('push', 'port-drop', '--repo', repo);
    const second = await l3afctl('push', PATH, '--repo', repo);

    assert.deepEqual([first.out, first.error, first.code], [`${PATH}: stored\n`, '', 0]);
    assert.deepEqual([second.out, second.code], [`${PATH}: unchanged\n`, 0]);
    const store = await nc.jetstream().views.os('L3AF_PACKAGES');
    const names = (await store.list()).map(({ name }) => name).toSorted();
    assert.deepEqual(names, [PATH, `${PATH}.sha256`, `${PATH}.sig`]);
  });

  it('are listed, and verified as agents would', async () => {
    const listed = await l3afctl('list', '--repo', 'nats://L3AF_PACKAGES', '-o', 'json');
    const trusted = await l3afctl('verify', PATH, '--repo', 'nats://', '--trust', join(dir, 'key.pub'));
    const absent = await l3afctl('verify', PATH.replace('1.0', '9.9'), '--repo', 'nats://');

    const [only] = JSON.parse(listed.out);
    assert.deepEqual([only.name, only.version, only.platform, only.signed], ['port-drop', '1.0', 'any', true]);
    assert.match(trusted.out, /signed by a trusted key\n {2}port-drop\/port_drop\.bpf\.o {2}300000 bytes\n/);
    assert.equal(absent.code, 1);
    assert.match(absent.error, /nothing found at nats:\/\/\/port-drop\/9\.9\/any/);
  });

  it('are read by an agent in chunks, for any platform', async () => {
    const path = await (await cacheOf('reading')).objectPath(REF, 'port_drop.bpf.o');

    assert.ok(OBJECT.equals(await readFile(path)));
  });

  it('are not overwritten by other content of the same version', async () => {
    const other = join(dir, 'other');
    await mkdir(other);
    await writeFile(join(other, 'port_drop.bpf.o'), 'other');
    const elsewhere = join(dir, 'other-repo');
    await l3afctl('build', other, 'port-drop', '1.0', '--repo', elsewhere);

    const refused = await l3afctl('push', 'port-drop', '--repo', elsewhere);

    assert.equal(refused.code, 1);
    assert.match(refused.error, /already in the object store with other content/);
  });

  it('are reported as none in an empty repository', async () => {
    await nc.jetstream().views.os('EMPTY');
    const folder = join(dir, 'empty');
    await mkdir(folder);

    const stored = await l3afctl('list', '--repo', 'nats://EMPTY');
    const local = await l3afctl('list', '--repo', folder);

    assert.deepEqual([stored.out, stored.code], ['There are no packages in nats://EMPTY.\n', 0]);
    assert.deepEqual([local.out, local.code], [`There are no packages in ${folder}.\n`, 0]);
    assert.equal((await l3afctl('list', '--repo', 'nats://EMPTY', '-o', 'json')).out, '[]\n');
  });

  it('cannot be listed if the kind of the repository is unknown', async () => {
    const { error, code } = await l3afctl('list', '--repo', 'ftp://web/packages');

    assert.match(error, /a folder or an object store as nats:\/\/<bucket>, got ftp:\/\/web\/packages\n/);
    assert.equal(code, 2);
  });

  it('are reported as absent if there is none or it was deleted', async () => {
    const store = await nc.jetstream().views.os('L3AF_PACKAGES');
    await store.put({ name: 'gone' }, new Blob(['x']).stream());
    await store.delete('gone');

    assert.equal(await openStoredObject(bus, 'L3AF_PACKAGES', 'gone', NEVER), undefined);
    assert.equal(await openStoredObject(bus, 'L3AF_PACKAGES', 'never', NEVER), undefined);
  });

  it('fail with a transient error if they are replaced while they are read', async () => {
    const store = await nc.jetstream().views.os('L3AF_PACKAGES');
    await store.put({ name: 'moving' }, new Blob([OBJECT]).stream());
    const object = await openStoredObject(bus, 'L3AF_PACKAGES', 'moving', NEVER);
    await store.put({ name: 'moving' }, new Blob(['new']).stream());

    const reading = async () => {
      for await (const _ of object!.content);
    };

    await assert.rejects(reading, { code: 'ARTIFACT_UNREACHABLE', transient: true, message: /was replaced/ });
  });

  it('fail with a transient error if the broker disappears, and can be read when it is back', async () => {
    const cache = await cacheOf('outage');
    await server.kill('SIGKILL');
    const failure = await cache.ensure(REF).catch((error: unknown) => error);
    await server.restart();
    await bus.connection.untilConnected(NEVER);

    assert.ok(failure instanceof AgentError);
    assert.deepEqual([failure.code, failure.transient], ['ARTIFACT_UNREACHABLE', true]);
    for (;;) {
      const folder = await cache.ensure(REF).catch((error: AgentError) => assert.ok(error.transient, error.message));
      if (folder !== undefined) break;
    }
  });
});
