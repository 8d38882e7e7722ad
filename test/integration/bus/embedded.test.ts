import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { connect } from 'nats';
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

  const { url, access } = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();

  assert.match(url, /^nats:\/\/127\.0\.0\.1:\d+$/);
  const bus = await openBus(t, { url: access }, collectLog());
  await ensureStreams(bus, subjectsFor('l3af', HOST), collectLog());
  assert.ok((await readdir(join(stateDir, 'nats', 'jetstream'))).length > 0);
});

test('only who knows the password gets in, and only root can read it; it is in no log', async (t) => {
  const stateDir = await givenStateDir(t);
  const log = collectLog();
  const { url, access } = await new EmbeddedServer({ stateDir, logger: log }).start();
  const { username, password } = new URL(access);

  for (const credentials of [{}, { user: username }, { user: username, pass: 'guessed' }, { token: password }])
    await assert.rejects(connect({ servers: url, reconnect: false, ...credentials }), /Authorization Violation/i);
  await openBus(t, { url: access }, collectLog());

  const folder = join(stateDir, 'nats');
  const secret = ['url', 'nats-server.password', 'nats-server.conf'].map((name) => join(folder, name));
  const modes = await Promise.all(
    [folder, ...secret].map(async (path) => ((await stat(path)).mode & 0o777).toString(8)),
  );
  assert.deepEqual(modes, ['700', '600', '600', '600']);
  assert.equal(await readFile(secret[0]!, 'utf8'), `${access}\n`);
  assert.ok(password.length >= 32, password);
  const words = JSON.stringify(log.lines) + (await readFile(join(folder, 'nats-server.log'), 'utf8'));
  assert.ok(!words.includes(password), words);
});

test('a server whose password was removed is started anew, with another one', async (t) => {
  const stateDir = await givenStateDir(t);
  const before = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();
  const pid = await pidOf(stateDir);
  await rm(join(stateDir, 'nats', 'nats-server.password'));

  const after = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();

  assert.equal(await isGone(pid), true);
  assert.deepEqual([after.url, after.access === before.access], [before.url, false]);
  await openBus(t, { url: after.access }, collectLog());
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

test('after a crash the server comes back for its agent, on the same port with the same password and messages', async (t) => {
  const stateDir = await givenStateDir(t);
  const server = new EmbeddedServer({ stateDir, logger: collectLog() });
  const before = await server.start();
  const bus = await openBus(t, { url: before.access }, collectLog());
  const subjects = subjectsFor('l3af', HOST);
  await ensureStreams(bus, subjects, collectLog());
  await bus.js.publish(subjects.command('deploy'), '[]');
  process.kill(await pidOf(stateDir), 'SIGKILL');

  const after = await server.start();

  assert.deepEqual(after, before);
  await bus.connection.untilConnected(AbortSignal.timeout(10_000));
  assert.equal((await bus.jsm.streams.info(STREAMS.commands)).state.messages, 1);
});

test('a server that is started by another agent has another password, since somebody may have listened at its address', async (t) => {
  const stateDir = await givenStateDir(t);
  const first = new EmbeddedServer({ stateDir, logger: collectLog() });
  const before = await first.start();
  await first.stop();

  const after = await new EmbeddedServer({ stateDir, logger: collectLog() }).start();

  assert.deepEqual([after.url, after.access === before.access], [before.url, false]);
  await openBus(t, { url: after.access }, collectLog());
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
  await openBus(t, { url: again.access }, collectLog());
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
  // Who has taken the port has perhaps been told the password.
  assert.notEqual(new URL(after.access).password, new URL(before.access).password);
  await openBus(t, { url: after.access }, collectLog());
});

test('without nats-server on the machine, the error says what to install', async () => {
  await assert.rejects(findServer(['/nonexistent']), {
    code: 'CONFIG_INVALID',
    message: /apt-get install nats-server/,
  });
});
