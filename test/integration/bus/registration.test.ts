import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { nanos } from 'nats';
import { openBucket } from '../../../src/bus/bucket.js';
import { Registration, type RegistrationOptions } from '../../../src/bus/registration.js';
import type { AgentError } from '../../../src/errors.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { until } from '../../support/until.js';
import { atEnd, backAgain, collectLog, type Given, givenBus, HOST, openBus } from './fixture.js';

const TTL_MS = 1_000;

/** A bus whose registrations live for a second. */
async function givenShortLives(t: TestContext): Promise<Given> {
  const given = await givenBus(t);
  const { config } = await given.bus.jsm.streams.info(`KV_${STREAMS.hosts}`);
  await given.bus.jsm.streams.update(config.name, {
    ...config,
    max_age: nanos(TTL_MS),
    duplicate_window: nanos(TTL_MS),
  });
  return given;
}

function registrationOf(t: TestContext, { bus }: Given, options: Partial<RegistrationOptions> = {}): Registration {
  const registration = new Registration({
    bus,
    host: HOST,
    instanceId: 'instance-1',
    startedAt: '2026-01-01T00:00:00Z',
    ttlMs: TTL_MS,
    describe: () => ({
      host: HOST,
      version: '1.0.0',
      interfaces: [],
      labels: {},
      kernel: { release: '6', features: {} },
    }),
    onConflict: (error) => assert.fail(error),
    logger: collectLog(),
    ...options,
  });
  atEnd(t, () => registration.stop());
  return registration;
}

async function entryOf({ bus }: Given): Promise<Record<string, unknown> | undefined> {
  const found = await (await openBucket(bus, STREAMS.hosts)).get(HOST);
  return found === null || found.operation !== 'PUT' ? undefined : found.json();
}

test('heartbeats keep a registration beyond its time to live, and a stop deletes it', async (t) => {
  const given = await givenShortLives(t);
  const registration = registrationOf(t, given);

  await registration.claim();
  registration.start();
  const first = await entryOf(given);
  await sleep(2 * TTL_MS);
  const later = await entryOf(given);
  await registration.stop();

  assert.equal(first?.instance_id, 'instance-1');
  assert.equal(first?.host, HOST);
  assert.ok(String(later?.seen_at) > String(first?.seen_at), 'no heartbeat');
  assert.equal(await entryOf(given), undefined);
});

test('a second agent refuses to run for a host whose agent is alive', async (t) => {
  const given = await givenShortLives(t);
  const first = registrationOf(t, given);
  await first.claim();
  first.start();

  const second = registrationOf(t, given, { instanceId: 'instance-2' });

  await assert.rejects(second.claim(), { code: 'DUPLICATE_HOST', message: /instance-1.*web1/ });
  assert.equal((await entryOf(given))?.instance_id, 'instance-1');
});

test('the registration of an agent without heartbeats is taken over, and the old agent is notified once when it continues', async (t) => {
  const given = await givenShortLives(t);
  const conflicts: AgentError[] = [];
  const first = registrationOf(t, given, { onConflict: (error) => conflicts.push(error) });
  await first.claim();

  const second = registrationOf(t, given, { instanceId: 'instance-2' });
  await second.claim();
  second.start();
  first.start();
  await until('the conflict', () => conflicts.length > 0);
  await sleep(TTL_MS);
  await first.stop();

  assert.deepEqual(
    conflicts.map(({ code }) => code),
    ['DUPLICATE_HOST'],
  );
  assert.equal((await entryOf(given))?.instance_id, 'instance-2');
});

test('the same instance, started again after a crash, takes its entry at once', async (t) => {
  const given = await givenBus(t);
  await registrationOf(t, given, { ttlMs: 60_000 }).claim();

  await registrationOf(t, given, { ttlMs: 60_000, startedAt: '2026-01-02T00:00:00Z' }).claim();

  assert.equal((await entryOf(given))?.started_at, '2026-01-02T00:00:00Z');
});

test('an agent writes its entry again if the entry expired while the connection was down', async (t) => {
  const given = await givenShortLives(t);
  const registration = registrationOf(t, given);
  await registration.claim();
  registration.start();

  await given.server.kill('SIGKILL');
  await sleep(1.5 * TTL_MS);
  await backAgain(given);

  await until('the entry', async () => (await entryOf(given)) !== undefined);
});

test('the offset of the server’s clock is measured', async (t) => {
  const given = await givenBus(t);
  const registration = registrationOf(t, given);
  const { now } = Date;
  t.mock.method(Date, 'now', () => now() - 3_600_000);

  await registration.claim();
  t.mock.restoreAll();

  const offset = registration.serverClockOffsetMs();
  assert.ok(Math.abs(offset - 3_600_000) < 60_000, `offset ${offset} ms, expected about an hour`);
});

test('a claim made while the server is away succeeds when it is back', async (t) => {
  const given = await givenBus(t);
  const bus = await openBus(t, given.server, collectLog());
  await given.server.kill('SIGKILL');
  await until('the loss', () => !bus.connection.connected);

  const claimed = registrationOf(t, { ...given, bus }).claim();
  await backAgain(given);

  await claimed;
});
