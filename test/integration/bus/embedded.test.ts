import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EmbeddedServer } from '../../../src/bus/embedded.js';
import { findServer } from '../../../src/bus/embedded-config.js';
import { isGone } from '../../../src/bus/process-state.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { atEnd, collectLog, HOST, openBus } from './fixture.js';

async function givenStateDir(t: TestContext): Promise<string> {
  const stateDir = await mkdtemp(join(tmpdir(), 'l3af-embedded-'));
  atEnd(t, async () => {
    await new EmbeddedServer({ stateDir, logger: collectLog() }).stop();
    await rm(stateDir, { recursive: true, force: true });
  });
  return stateDir;
}

async function pidOf(stateDir: string): Promise<number> {
  return Number(await readFile(join(stateDir, 'nats', 'nats-server.pid'), 'utf8'));
}

test('the server comes up with JetStream, on the loopback address, below the state directory', async (t) => {
  const stateDir = await givenStateDir(t);

  const { url } = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();

  assert.match(url, /^nats:\/\/127\.0\.0\.1:\d+$/);
  const bus = await openBus(t, { url }, collectLog());
  await ensureStreams(bus, subjectsFor('l3af', HOST), collectLog());
  assert.ok((await readdir(join(stateDir, 'nats', 'jetstream'))).length > 0);
});

test('a second agent adopts the server that runs; a stop ends it', async (t) => {
  const stateDir = await givenStateDir(t);
  const first = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const pid = await pidOf(stateDir);

  const successor = new EmbeddedServer({ stateDir, logger: collectLog() });
  assert.deepEqual(await successor.start(), first);
  assert.equal(await pidOf(stateDir), pid);

  await successor.stop();
  assert.equal(await isGone(pid), true);
  await successor.stop();
});

test('after a crash the server comes back on the same port with the same messages', async (t) => {
  const stateDir = await givenStateDir(t);
  const before = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const bus = await openBus(t, before, collectLog());
  const subjects = subjectsFor('l3af', HOST);
  await ensureStreams(bus, subjects, collectLog());
  await bus.js.publish(subjects.command('deploy'), '[]');
  process.kill(await pidOf(stateDir), 'SIGKILL');

  const after = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();

  assert.deepEqual(after, before);
  await bus.connection.untilConnected(AbortSignal.timeout(10_000));
  assert.equal((await bus.jsm.streams.info(STREAMS.commands)).state.messages, 1);
});

test('a pid file with a foreign process is ignored', async (t) => {
  const stateDir = await givenStateDir(t);
  await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const file = join(stateDir, 'nats', 'nats-server.pid');
  const ours = await pidOf(stateDir);
  await writeFile(file, String(process.pid));

  await new EmbeddedServer({ stateDir, logger: collectLog() }).stop();

  assert.equal(await isGone(ours), false);
  await writeFile(file, String(ours));
});

test('a pid file with a program that only reads the configuration is ignored', async (t) => {
  const stateDir = await givenStateDir(t);
  const server = new EmbeddedServer({ stateDir, logger: collectLog() });
  await server.start();
  await server.stop();
  const config = join(stateDir, 'nats', 'nats-server.conf');
  const reader = spawn('tail', ['-f', config], { stdio: 'ignore' });
  atEnd(t, () => reader.kill('SIGKILL'));
  await once(reader, 'spawn');
  await writeFile(join(stateDir, 'nats', 'nats-server.pid'), String(reader.pid));

  const again = await server.start();

  assert.notEqual(await pidOf(stateDir), reader.pid);
  await openBus(t, again, collectLog());
  assert.equal(reader.exitCode, null);
});

test('a server is not adopted if this state directory is a copy of its own', async (t) => {
  const original = await givenStateDir(t);
  const { url } = await new EmbeddedServer({ stateDir: original, logger: collectLog() }).start();
  const copy = await givenStateDir(t);
  await cp(original, copy, { recursive: true });

  const own = await new EmbeddedServer({ stateDir: copy, logger: collectLog() }).start();

  assert.notEqual(own.url, url);
  assert.notEqual(await pidOf(copy), await pidOf(original));
});

test('a server is recognised if its state directory has another path', async (t) => {
  const stateDir = await givenStateDir(t);
  const { url } = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const pid = await pidOf(stateDir);
  const otherName = `${stateDir}-link`;
  await symlink(stateDir, otherName);
  atEnd(t, () => rm(otherName));

  const adopting = new EmbeddedServer({ stateDir: otherName, logger: collectLog() });

  assert.equal((await adopting.start()).url, url);
  assert.equal(await pidOf(stateDir), pid);
});

test('a foreign server in a directory of the same name is not stopped', async (t) => {
  const stateDir = await givenStateDir(t);
  const before = new EmbeddedServer({ stateDir, logger: collectLog() });
  await before.start();
  const moved = `${stateDir}-moved`;
  await rename(stateDir, moved);
  atEnd(t, async () => {
    await new EmbeddedServer({ stateDir: moved, logger: collectLog() }).stop();
    await rm(moved, { recursive: true });
  });
  const pidBefore = await pidOf(moved);
  atEnd(t, () => {
    try {
      process.kill(pidBefore, 'SIGKILL');
    } catch {
      // Ended, as expected.
    }
  });
  await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const successor = await pidOf(stateDir);

  await before.stop();

  assert.equal(await isGone(successor), false);
});

test('if another process uses the port meanwhile, another port is chosen', async (t) => {
  const stateDir = await givenStateDir(t);
  const server = new EmbeddedServer({ stateDir, logger: collectLog() });
  const before = await server.start();
  await server.stop();
  const squatter = createServer().listen(Number(new URL(before.url).port), '127.0.0.1');
  await once(squatter, 'listening');
  atEnd(t, () => squatter.close());

  const after = await server.start();

  assert.notEqual(after.url, before.url);
  await openBus(t, after, collectLog());
});

test('without nats-server on the machine, the error says what to install', async () => {
  await assert.rejects(findServer(['/nonexistent']), {
    code: 'CONFIG_INVALID',
    message: /apt-get install nats-server/,
  });
});
