import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, nkeys } from 'nats';
import { connectBus } from '../../../src/bus/connect.js';
import { startNats } from '../../support/nats.js';
import { until } from '../../support/until.js';
import { atEnd, collectLog, openBus } from './fixture.js';

async function givenDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-connect-'));
  atEnd(t, () => rm(dir, { recursive: true, force: true }));
  return dir;
}

test('the agent waits for a server that does not run yet, and logs that once', async (t) => {
  const server = await startNats();
  atEnd(t, () => server.stop());
  await server.kill('SIGKILL');
  const log = collectLog();

  const connecting = openBus(t, server, log);
  await sleep(1_500);
  await server.restart();
  const bus = await connecting;

  assert.equal(bus.connection.connected, true);
  assert.equal(log.count('cannot connect to NATS; trying again'), 1);
  assert.equal(log.count('connected to NATS'), 1);
});

test('the wait for the first connection ends when it is cancelled', async () => {
  const signal = AbortSignal.timeout(300);

  await assert.rejects(connectBus({ servers: ['nats://127.0.0.1:1'], name: 'test', signal }, collectLog()), {
    code: 'BROKER_UNREACHABLE',
    transient: true,
  });
});

test('a lost connection is reported once and restored, and the current exchange is aborted', async (t) => {
  const server = await startNats();
  atEnd(t, () => server.stop());
  const log = collectLog();
  const bus = await openBus(t, server, log);
  const changes: string[] = [];
  bus.connection.onDisconnect(() => changes.push('down'));
  const forget = bus.connection.onReconnect(() => changes.push('up'));
  const { session } = bus.connection;
  bus.nc.subscribe('never.answered');
  const exchange = assert.rejects(bus.connection.guard(bus.nc.request('never.answered', '', { timeout: 60_000 })), {
    code: 'BROKER_UNREACHABLE',
  });

  await server.kill('SIGKILL');
  await exchange;
  await sleep(1_000);
  await server.restart();
  await until('the connection', () => bus.connection.connected);
  forget();
  await server.restart();
  await until('the second loss', () => changes.length === 3);

  assert.deepEqual(changes, ['down', 'up', 'down']);
  assert.equal(session.aborted, true);
  assert.equal(log.count('NATS connection lost; reconnecting'), 2);
});

test('a connection with an nkey works, and is restored after the key was renewed on disk', async (t) => {
  const dir = await givenDir(t);
  const [before, after] = [nkeys.createUser(), nkeys.createUser()];
  const server = await startNats({
    config: `authorization { users: [
      {nkey: ${before.getPublicKey()}, permissions: {publish: {deny: [probe]}}}, {nkey: ${after.getPublicKey()}} ] }`,
  });
  atEnd(t, () => server.stop());
  const nkeyFile = join(dir, 'seed');
  await writeFile(nkeyFile, `${new TextDecoder().decode(before.getSeed())}\n`);
  const bus = await connectBus({ servers: [server.url], name: 'test', nkeyFile }, collectLog());
  atEnd(t, () => bus.close());
  const probe = () => bus.nc.request('probe', '', { timeout: 5_000 });
  await assert.rejects(probe(), { code: ErrorCode.PermissionsViolation });

  await writeFile(nkeyFile, after.getSeed());
  await bus.nc.reconnect();
  await until('the loss', () => !bus.connection.connected);
  await until('the connection', () => bus.connection.connected);

  await assert.rejects(probe(), { code: ErrorCode.NoResponders });
});

test('user and password of the URL are used, and never logged', async (t) => {
  const server = await startNats({ config: 'authorization { user: agent, password: "s3cret" }' });
  atEnd(t, () => server.stop());
  const log = collectLog();

  const bus = await openBus(t, { url: server.url.replace('//', '//agent:s3cret@') }, log);
  assert.equal(bus.connection.connected, true);
  const wrong = connectBus(
    { servers: [server.url.replace('//', '//agent:wr0ng@')], name: 'test', signal: AbortSignal.timeout(500) },
    log,
  );
  await assert.rejects(wrong, (error: Error) => !error.message.includes('wr0ng'));

  assert.doesNotMatch(JSON.stringify(log.lines), /s3cret|wr0ng/);
});

test('an unreadable file of the configuration is refused with its name', async () => {
  for (const files of [{ credsFile: '/nonexistent/creds' }, { tls: { caFile: '/nonexistent/ca.pem' } }]) {
    await assert.rejects(connectBus({ servers: ['nats://127.0.0.1:1'], name: 'test', ...files }, collectLog()), {
      code: 'CONFIG_INVALID',
      message: /\/nonexistent\/(creds|ca\.pem)/,
    });
  }
});
