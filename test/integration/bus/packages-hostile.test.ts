import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { connect, type NatsConnection, type ObjectStore } from 'nats';
import { type Bus, connectBus } from '../../../src/bus/connect.js';
import { openStoredObject } from '../../../src/bus/objects.js';
import { ObjectBucket } from '../../../src/client/object-bucket.js';
import { AgentError } from '../../../src/errors.js';
import { PackageCache } from '../../../src/packages/cache.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { L3AFCTL } from '../../support/project.js';
import { collectLog } from './fixture.js';

describe('an object store that others write to', () => {
  let server: TestServer;
  let bus: Bus;
  let nc: NatsConnection;
  let store: ObjectStore;
  let dir: string;

  async function l3afctl(...args: readonly string[]) {
    const env = { PATH: '', TMPDIR: dir, L3AF_NATS_URL: server.url };
    const child = spawn(process.execPath, [L3AFCTL, 'package', ...args], { env });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const [out, error, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    return { out, error, code, child };
  }

  /** A repository with one package of random content, large enough for several chunks. */
  async function repositoryWith(name: string, bytes = 300_000): Promise<string> {
    const content = await mkdtemp(join(dir, 'content-'));
    await writeFile(join(content, `${name}.bpf.o`), randomBytes(bytes));
    const repo = await mkdtemp(join(dir, 'repo-'));
    const built = await l3afctl('build', content, name, '1.0', '--repo', repo);
    assert.equal(built.code, 0, built.error);
    return repo;
  }

  /** A repository with a package so large that pushing it takes some time. Its content does not matter. */
  async function repositoryOfLarge(name: string): Promise<string> {
    const repo = await mkdtemp(join(dir, 'repo-'));
    await mkdir(dirname(join(repo, pathTo(name))), { recursive: true });
    await writeFile(join(repo, pathTo(name)), '');
    await truncate(join(repo, pathTo(name)), 80_000_000);
    return repo;
  }

  async function cacheOf(bucket: string): Promise<PackageCache> {
    const cache = new PackageCache({
      dir: await mkdtemp(join(dir, 'cache-')),
      repoUrl: `nats://${bucket}`,
      platform: 'any',
      objects: { open: (...object) => openStoredObject(bus, ...object) },
      fetch: { backoffMs: 1, tries: 2 },
    });
    await cache.open();
    return cache;
  }

  const refTo = (name: string) => ({ name, version: '1.0', artifact: `${name}.tar.gz`, repoUrl: '' });
  const pathTo = (name: string) => `${name}/1.0/any/${name}.tar.gz`;
  const encoded = (name: string) => Buffer.from(name).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  const metaOf = (name: string) => `$O.L3AF_PACKAGES.M.${encoded(name)}`;

  /** The number of chunks of objects. */
  async function chunksIn(bucket: string): Promise<number> {
    const filter = { subjects_filter: `$O.${bucket}.C.*` };
    const { state } = await (await nc.jetstreamManager()).streams.info(`OBJ_${bucket}`, filter);
    return Object.values(state.subjects ?? {}).reduce((sum, count) => sum + count, 0);
  }

  before(async () => {
    server = await startNats({ config: 'max_payload: 65536' });
    bus = await connectBus({ servers: [server.url], name: 'agent' }, collectLog());
    nc = await connect({ servers: server.url });
    dir = await mkdtemp(join(tmpdir(), 'l3af-bus-hostile-'));
    store = await nc.jetstream().views.os('L3AF_PACKAGES');
  });

  after(async () => {
    await nc.close();
    await bus.close();
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('works if the server allows only messages smaller than a chunk', async () => {
    const repo = await repositoryWith('small');
    const pushed = await l3afctl('push', 'small', '--repo', repo);
    assert.deepEqual([pushed.out, pushed.code], [`${pathTo('small')}: stored\n`, 0], pushed.error);
    await (await cacheOf('L3AF_PACKAGES')).objectPath(refTo('small'), 'small.bpf.o');
    const asOthersReadIt = await store.getBlob(pathTo('small'));
    assert.ok((await readFile(join(repo, pathTo('small')))).equals(asOthersReadIt!));
  });

  it('may contain links, which are not listed as packages and are refused as links', async () => {
    const target = await store.info(pathTo('small'));
    await store.link(pathTo('linked'), target!);
    const other = await nc.jetstream().views.os('OTHER');
    await store.linkStore(pathTo('bucket'), other);

    const listed = await l3afctl('list', '--repo', 'nats://');
    assert.equal(listed.code, 0, listed.error);
    assert.doesNotMatch(listed.out, /linked|bucket/);
    for (const name of ['linked', 'bucket']) {
      const failure = await (await cacheOf('L3AF_PACKAGES')).ensure(refTo(name)).catch((error) => error);
      assert.equal(failure.code, 'ARTIFACT_INVALID', failure.message);
      assert.match(failure.message, /is a link/);
    }
    const repo = await repositoryWith('linked');
    const pushed = await l3afctl('push', 'linked', '--repo', repo);
    assert.equal(pushed.code, 1);
    assert.match(pushed.error, /linked.* already in the object store/);
  });

  const GARBAGE = ['', 'no JSON', 'null', '[]', '{}', '{"name":1,"digest":2,"size":"x"}', '{"size":-1,"nuid":">"}'];

  it('may contain messages that are not objects; they hide nothing and are refused', async () => {
    for (const [index, content] of GARBAGE.entries()) {
      await nc.jetstream().publish(metaOf(pathTo(`garbage${index}`)), content);
    }
    const listed = await l3afctl('list', '--repo', 'nats://');
    assert.deepEqual([listed.error, listed.code], ['', 0]);
    assert.match(listed.out, /^small /m);
    for (const index of GARBAGE.keys()) {
      const failure = await (await cacheOf('L3AF_PACKAGES')).ensure(refTo(`garbage${index}`)).catch((error) => error);
      assert.equal(failure.code, 'ARTIFACT_INVALID', `${GARBAGE[index]}: ${failure.message}`);
    }
    const repo = await repositoryWith('beside');
    const pushed = await l3afctl('push', 'beside', '--repo', repo);
    assert.deepEqual([pushed.out, pushed.code], [`${pathTo('beside')}: stored\n`, 0], pushed.error);
  });

  it('may contain an object whose content does not match its digest; reading it is given up', async () => {
    const digest = createHash('sha256').update('what it should be').digest('base64url');
    const info = {
      name: pathTo('wrong'),
      bucket: 'L3AF_PACKAGES',
      nuid: 'WRONG',
      size: 5,
      chunks: 1,
      digest: `SHA-256=${digest}=`,
    };
    await nc.jetstream().publish('$O.L3AF_PACKAGES.C.WRONG', 'wrong');
    await nc.jetstream().publish(metaOf(pathTo('wrong')), JSON.stringify(info));
    const failure = await (await cacheOf('L3AF_PACKAGES')).ensure(refTo('wrong')).catch((error) => error);
    assert.deepEqual([failure.code, failure.transient], ['ARTIFACT_UNREACHABLE', true]);
    assert.match(failure.message, /does not match its digest/);
  });

  it('keeps the first of two packages with different content that are pushed at once', async () => {
    const repos = await Promise.all([repositoryWith('twice', 3_000_000), repositoryWith('twice', 3_000_000)]);
    const pushed = await Promise.all(repos.map((repo) => l3afctl('push', 'twice', '--repo', repo)));

    assert.deepEqual(pushed.map(({ code }) => code).toSorted(), [0, 1], pushed.map(({ error }) => error).join());
    await (await cacheOf('L3AF_PACKAGES')).ensure(refTo('twice'));
    assert.match(pushed.find(({ code }) => code === 1)!.error, /already in the object store with other content/);
  });

  it('accepts the same content twice at once', async () => {
    const repo = await repositoryWith('same', 3_000_000);
    const pushed = await Promise.all([repo, repo].map((from) => l3afctl('push', 'same', '--repo', from)));

    assert.deepEqual(
      pushed.map(({ code }) => code),
      [0, 0],
      pushed.map(({ error }) => error).join(),
    );
    await (await cacheOf('L3AF_PACKAGES')).ensure(refTo('same'));
  });

  it('keeps nothing of a failed upload, but keeps what it had before', async (t) => {
    const bucket = await ObjectBucket.connect({ servers: [server.url] }, 'L3AF_PACKAGES');
    t.after(() => bucket.close());
    const messages = async () => (await (await nc.jetstreamManager()).streams.info('OBJ_L3AF_PACKAGES')).state.messages;
    const before = await messages();
    async function* breaking() {
      yield randomBytes(500_000);
      throw new AgentError('ARTIFACT_INVALID', 'altered');
    }
    for (const [name, replace] of [
      ['new', false],
      [pathTo('small'), true],
    ] as const) {
      await assert.rejects(bucket.put(name, { content: breaking() }, replace), { message: 'altered' });
    }
    assert.equal(await messages(), before);
    await (await cacheOf('L3AF_PACKAGES')).ensure(refTo('small'));
  });

  it('keeps nothing of an object that was replaced, or that came too late', async (t) => {
    const bucket = await ObjectBucket.connect({ servers: [server.url] }, 'L3AF_PACKAGES');
    t.after(() => bucket.close());
    async function* content() {
      yield randomBytes(200_000);
    }
    await bucket.put('replaced', { content: content() }, true);
    const before = await chunksIn('L3AF_PACKAGES');
    assert.equal(await bucket.put('replaced', { content: content() }, true), true);
    assert.equal(await bucket.put('replaced', { content: content() }, false), false);
    assert.equal(await chunksIn('L3AF_PACKAGES'), before);

    const [first, second] = await Promise.all(
      ['first', 'second'].map(() => bucket.put('raced', { content: content() }, false)),
    );
    assert.notEqual(first, second);
    await store.delete('raced');
    assert.equal(await chunksIn('L3AF_PACKAGES'), before);
  });

  it('does not keep a package that changes while it is pushed', async () => {
    const repo = await repositoryOfLarge('altered');
    const chunks = nc.subscribe('$O.L3AF_PACKAGES.C.*', { max: 1 });
    const pushing = l3afctl('push', 'altered', '--repo', repo);
    for await (const _ of chunks) await truncate(join(repo, pathTo('altered')), 0);

    const { error, code } = await pushing;
    assert.equal(code, 1);
    assert.match(error, /altered\.tar\.gz was changed while it was read; push it again\n/);
    assert.equal(await store.info(pathTo('altered')), null);
  });

  it('accepts a deleted package again', async () => {
    await store.delete(pathTo('small'));
    const repo = await repositoryWith('small');
    const pushed = await l3afctl('push', 'small', '--repo', repo);
    assert.deepEqual([pushed.out, pushed.code], [`${pathTo('small')}: stored\n`, 0], pushed.error);
    await (await cacheOf('L3AF_PACKAGES')).ensure(refTo('small'));
  });

  it('is complete after a push that was killed and repeated', async () => {
    const repo = await repositoryOfLarge('killed');
    const env = { PATH: '', TMPDIR: dir, L3AF_NATS_URL: server.url };
    const child = spawn(process.execPath, [L3AFCTL, 'package', 'push', 'killed', '--repo', repo], { env });
    const chunks = nc.subscribe('$O.L3AF_PACKAGES.C.*', { max: 1 });
    for await (const _ of chunks);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));

    assert.equal(await store.info(pathTo('killed')), null);
    const again = await l3afctl('push', 'killed', '--repo', repo);
    assert.deepEqual([again.out, again.code], [`${pathTo('killed')}: stored\n`, 0], again.error);
    assert.equal((await store.info(pathTo('killed')))!.size, 80_000_000);
  });

  it('reports that it is full, and keeps nothing of an object that does not fit', async () => {
    await nc.jetstream().views.os('FULL', { max_bytes: 1_000_000 });
    const repo = await repositoryWith('large', 3_000_000);
    const { error, code } = await l3afctl('push', 'large', '--repo', repo, '--to', 'nats://FULL');

    assert.match(
      error,
      /The object store FULL cannot be used: the stream OBJ_FULL is full: .* limit max_bytes.*; purge /,
    );
    assert.equal(code, 1);
    assert.equal(await chunksIn('FULL'), 1, 'only the checksum file');
  });

  it('is distinguished from a stream that only has its name', async () => {
    await (await nc.jetstreamManager()).streams.add({ name: 'OBJ_ALIEN', subjects: ['alien.>'] });
    const repo = await repositoryWith('strange');
    const { error, code } = await l3afctl('push', 'strange', '--repo', repo, '--to', 'nats://ALIEN');

    assert.match(error, /^l3afctl package push: .* ALIEN cannot be used: nobody answers: .* is not an object store\n$/);
    assert.equal(code, 4);
  });

  it('may disappear during a push, which is reported in one line, and accepts the package later', async () => {
    const repo = await repositoryOfLarge('torn');
    const chunks = nc.subscribe('$O.L3AF_PACKAGES.C.*', { max: 10 });
    const pushing = l3afctl('push', 'torn', '--repo', repo);
    for await (const _ of chunks);
    await server.kill('SIGKILL');
    const { error, code } = await pushing;
    await server.restart();

    assert.deepEqual([error, code], ['l3afctl package push: The connection to NATS was lost\n', 4]);
    const again = await l3afctl('push', 'torn', '--repo', repo);
    assert.deepEqual([again.out, again.code], [`${pathTo('torn')}: stored\n`, 0], again.error);
  });
});
