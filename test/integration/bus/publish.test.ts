import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openBucket } from '../../../src/bus/bucket.js';
import type { Delivery } from '../../../src/bus/delivery.js';
import { Publisher } from '../../../src/bus/publish.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { until } from '../../support/until.js';
import { atEnd, backAgain, type Given, givenBus, HOST, text } from './fixture.js';

function publisherOf(t: TestContext, { bus, subjects, log }: Given): Publisher {
  const publisher = new Publisher({ bus, subjects, host: HOST, logger: log });
  atEnd(t, () => publisher.stop());
  return publisher;
}

async function eventsOf({
  bus,
}: Given): Promise<{ subject: string; body: string; header: (name: string) => string }[]> {
  const { state } = await bus.jsm.streams.info(STREAMS.events);
  const events = [];
  for (let seq = state.first_seq; state.messages > 0 && seq <= state.last_seq; seq++) {
    const { subject, data, header } = await bus.jsm.streams.getMessage(STREAMS.events, { seq });
    events.push({ subject, body: text(data), header: (name: string) => header.get(name) });
  }
  return events;
}

const QUARANTINED: Delivery = {
  id: 'bad-1',
  verb: 'deploy',
  body: Uint8Array.of(0xff, 0x00, 0x7b),
  seq: 7,
  storedAt: '2026-01-01T00:00:00.000Z',
  gen: '3',
  prevGen: undefined,
  expires: '2099-01-01T00:00:00Z',
  streamCreated: '2026-01-01T00:00:00Z',
};

test('only the newest snapshot is kept', async (t) => {
  const given = await givenBus(t);
  const publisher = publisherOf(t, given);

  await publisher.snapshot({ HostName: 'old' });
  await publisher.snapshot({ HostName: 'new' });

  const bucket = await openBucket(given.bus, STREAMS.state);
  assert.deepEqual((await bucket.get(HOST))?.json(), { HostName: 'new' });
  assert.equal((await given.bus.jsm.streams.info(`KV_${STREAMS.state}`)).state.messages, 1);
});

test('a snapshot without a connection fails at once', async (t) => {
  const given = await givenBus(t);
  await given.server.kill('SIGKILL');
  await until('the loss', () => !given.bus.connection.connected);

  await assert.rejects(publisherOf(t, given).snapshot({}), { code: 'BROKER_UNREACHABLE', transient: true });
});

test('events raised while the server is away arrive in order when it is back', async (t) => {
  const given = await givenBus(t);
  const publisher = publisherOf(t, given);
  publisher.event('started', { n: 0 });
  await until('the first event', async () => (await eventsOf(given)).length === 1);
  await given.server.kill('SIGKILL');

  for (let n = 1; n <= 5; n++) publisher.event('adopted', { n });
  await backAgain(given);
  await until('all events', async () => (await eventsOf(given)).length === 6);

  assert.deepEqual(
    (await eventsOf(given)).map(({ subject, body }) => [subject, body]),
    [['l3af.evt.web1.started', '{"n":0}'], ...[1, 2, 3, 4, 5].map((n) => ['l3af.evt.web1.adopted', `{"n":${n}}`])],
  );
});

test('if there are too many events, the oldest are dropped, which is logged', async (t) => {
  const given = await givenBus(t);
  const publisher = publisherOf(t, given);
  await given.server.kill('SIGKILL');
  await until('the loss', () => !given.bus.connection.connected);

  for (let n = 0; n < 1_010; n++) publisher.event('adopted', { n });
  await backAgain(given);
  await until('the newest event', async () => (await eventsOf(given)).at(-1)?.body === '{"n":1009}');

  const bodies = (await eventsOf(given)).map(({ body }) => body);
  assert.equal(bodies.length, 1_000);
  assert.equal(bodies[0], '{"n":10}');
  assert.equal(given.log.count('too many events wait for NATS; dropping the oldest'), 1);
});

test('a dead letter keeps body and headers, names the command, and is stored once however often it is sent', async (t) => {
  const given = await givenBus(t);
  const publisher = publisherOf(t, given);

  await publisher.deadLetter(QUARANTINED);
  await publisher.deadLetter(QUARANTINED);

  const [letter, ...more] = await eventsOf(given);
  assert.deepEqual(more, []);
  assert.equal(letter?.subject, 'l3af.dlq.web1');
  assert.deepEqual(
    ['L3AF-Command-Id', 'L3AF-Gen', 'L3AF-Prev-Gen', 'L3AF-Expires'].map((name) => letter?.header(name)),
    ['bad-1', '3', '', '2099-01-01T00:00:00Z'],
  );
  const { state } = await given.bus.jsm.streams.info(STREAMS.events);
  const stored = await given.bus.jsm.streams.getMessage(STREAMS.events, { seq: state.last_seq });
  assert.deepEqual([...stored.data], [...QUARANTINED.body]);
});

test('metrics go out on the host’s subject', async (t) => {
  const given = await givenBus(t);
  const subscription = given.controller.bus.nc.subscribe(given.subjects.metrics, { max: 1 });
  await given.controller.bus.nc.flush();

  publisherOf(t, given).metrics({ packets: 1 });

  for await (const message of subscription) assert.deepEqual(message.json(), { packets: 1 });
});

test('metrics that are too large for the server are a trouble, told once in words, until they are smaller', async (t) => {
  const given = await givenBus(t, { config: 'max_payload: 4096' });
  const publisher = publisherOf(t, given);
  const heard: string[] = [];
  given.bus.nc.subscribe(given.subjects.metrics, { callback: (_error, message) => heard.push(message.string()) });
  const tooLarge = { metrics: 'x'.repeat(5_000) };

  publisher.metrics(tooLarge);
  publisher.metrics(tooLarge);
  const [troubles, warnings] = [given.bus.troubles.list(), given.log.count('could not publish the metrics')];
  publisher.metrics({ metrics: 'few' });
  await until('the smaller ones', () => heard.length === 1);

  const [trouble, ...rest] = troubles;
  assert.match(trouble?.message ?? '', /^The metrics cannot be published\. .*\(max_payload, 4096 bytes\); raise/);
  assert.deepEqual([trouble?.task, rest, warnings], ['publishing', [], 1]);
  assert.deepEqual([heard, given.bus.troubles.list()], [['{"metrics":"few"}'], []]);
});

test('a snapshot that is too large for the server is told as one', async (t) => {
  const given = await givenBus(t, { config: 'max_payload: 4096' });

  await assert.rejects(publisherOf(t, given).snapshot({ HostName: 'x'.repeat(5_000) }), { code: 'BROKER_REFUSED' });

  assert.match(
    given.bus.troubles.list()[0]?.message ?? '',
    /^The snapshot of the host cannot be stored\. .*max_payload/,
  );
});
