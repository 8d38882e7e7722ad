import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandStream } from '../../../src/bus/command-stream.js';
import type { Backlog, Delivery } from '../../../src/bus/delivery.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { type Given, givenBus, HOST, text } from './fixture.js';

/** The commands of a backlog with their bodies, as they are read later. */
async function bodiesOf(commands: CommandStream, { deliveries }: Backlog): Promise<Delivery[]> {
  let read: Delivery[] = [];
  await commands.bodies([deliveries[0]!.seq, deliveries.at(-1)!.seq], () => {
    read = [];
    return (delivery) => void read.push(delivery);
  });
  return read;
}

function commandsOf({ bus, subjects, log }: Given): CommandStream {
  return new CommandStream({ bus, subjects, host: HOST, logger: log });
}

test('the backlog of a host without state begins at its last deploy, however much lies before', async (t) => {
  const given = await givenBus(t);
  const early = Array.from({ length: 2_000 }, (_, index) =>
    given.controller.bus.js.publish(given.subjects.command(index % 7 === 0 ? 'deploy' : 'add'), `early ${index}`),
  );
  await Promise.all(early);
  const deploy = await given.controller.send('deploy', 'the last deploy');
  await given.controller.bus.js.publish('l3af.cmd.web2.deploy', 'of another host');
  await given.controller.send('add', 'an add');
  const last = await given.controller.send('delete', 'a delete');
  const before = given.bus.nc.stats().inMsgs;

  const commands = commandsOf(given);
  const backlog = await commands.backlog(null);
  const { deliveries, upTo } = backlog;

  assert.deepEqual(
    (await bodiesOf(commands, backlog)).map(({ verb, body }) => [verb, text(body)]),
    [
      ['deploy', 'the last deploy'],
      ['add', 'an add'],
      ['delete', 'a delete'],
    ],
  );
  assert.equal(deliveries[0]?.seq, deploy);
  assert.equal(upTo, last);
  assert.ok(given.bus.nc.stats().inMsgs - before < 30, 'messages before the last deploy were read');
});

test('backlog and consumer describe a first delivery in the same way', async (t) => {
  const given = await givenBus(t);
  await given.controller.send('deploy', 'body', { 'Nats-Msg-Id': 'a', 'L3AF-Gen': '1' });
  const commands = commandsOf(given);
  const described = await bodiesOf(commands, await commands.backlog(null));

  const consumed = await new Promise((resolve) => {
    void commands.consume(0, async (delivery) => {
      resolve(delivery);
      return 'done';
    });
  });
  await commands.stop();

  assert.deepEqual(described, [consumed]);
});

test('past a known sequence, the backlog is every command, since each awaits an answer', async (t) => {
  const given = await givenBus(t);
  for (const verb of ['deploy', 'add', 'deploy', 'add', 'add']) await given.controller.send(verb, verb);
  const commands = commandsOf(given);
  const sequencesAfter = async (after: number | null) =>
    (await commands.backlog(after)).deliveries.map(({ seq }) => seq);

  assert.deepEqual(await sequencesAfter(null), [3, 4, 5]);
  assert.deepEqual(await sequencesAfter(0), [1, 2, 3, 4, 5]);
  assert.deepEqual(await sequencesAfter(1), [2, 3, 4, 5]);
  assert.deepEqual(await sequencesAfter(3), [4, 5]);
  assert.deepEqual(await sequencesAfter(5), []);
});

test('without any deploy the backlog begins at the first command; on an empty stream it is empty', async (t) => {
  const given = await givenBus(t);
  const commands = commandsOf(given);
  assert.deepEqual(await commands.backlog(null), { deliveries: [], upTo: 0 });
  await given.controller.send('add', 'first');
  await given.controller.send('add', 'second');

  const backlog = await commands.backlog(null);
  const { upTo } = backlog;

  assert.deepEqual(
    (await bodiesOf(commands, backlog)).map(({ body }) => text(body)),
    ['first', 'second'],
  );
  assert.equal(upTo, 2);
});

test('a deploy that is not usable does not hide the usable one before it', async (t) => {
  const given = await givenBus(t);
  for (const body of ['old', 'good', 'broken', 'broken too']) await given.controller.send('deploy', body);
  const commands = commandsOf(given);

  const backlog = await commands.backlog(null, ({ body }) => !text(body).startsWith('broken'));

  assert.deepEqual(
    (await bodiesOf(commands, backlog)).map(({ body }) => text(body)),
    ['good', 'broken', 'broken too'],
  );
});

test('reading a backlog of more than one batch leaves no reader behind', async (t) => {
  const given = await givenBus(t);
  await Promise.all(
    Array.from({ length: 1_234 }, () => given.controller.bus.js.publish(given.subjects.command('add'), 'x')),
  );

  const { deliveries } = await commandsOf(given).backlog(null);

  assert.deepEqual(
    deliveries.map(({ seq }) => seq),
    Array.from({ length: 1_234 }, (_, index) => index + 1),
  );
  assert.deepEqual(await given.bus.jsm.consumers.list(STREAMS.commands).next(), []);
});

test('a command can be read by its sequence', async (t) => {
  const given = await givenBus(t);
  const commands = commandsOf(given);
  for (const body of ['1', '2', '3']) await given.controller.send('add', body, { 'Nats-Msg-Id': `id-${body}` });
  await given.bus.jsm.streams.deleteMessage(STREAMS.commands, 2);

  assert.deepEqual(await commands.at(1), (await bodiesOf(commands, await commands.backlog(null)))[0]);
  assert.equal((await commands.at(3))?.id, 'id-3');
  assert.equal(await commands.at(2), undefined);
  assert.equal(await commands.at(4), undefined);
});

test('a backlog larger than the permitted memory is read body by body', async (t) => {
  const given = await givenBus(t);
  const body = 'x'.repeat(500_000);
  const count = 400;
  for (let sent = 0; sent < count; sent += 1) await given.controller.send('add', body);
  const commands = commandsOf(given);
  const collect = globalThis.gc;
  assert.ok(collect, 'run with --expose-gc');
  const used = () => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();

  const backlog = await commands.backlog(null);
  assert.ok(used() - before < LITTLE, 'the heads alone');
  let [read, most] = [0, 0];
  await commands.bodies([1, count], () => (delivery) => {
    read += delivery.body.length;
    if (delivery.seq % 40 === 0) most = Math.max(most, used() - before);
  });

  assert.equal(backlog.deliveries.length, count);
  assert.equal(read, count * body.length);
  assert.ok(most < (count * body.length) / 2, `${most} bytes were held of ${read}`);
  assert.ok(used() - before < LITTLE, 'nothing is kept');
});

/** A fraction of the size of the backlog. */
const LITTLE = 20_000_000;

test('if the server announces more than it delivers, the backlog is what it delivers, and the consumer gets the rest', async (t) => {
  const given = await givenBus(t);
  for (const verb of ['deploy', 'add']) await given.controller.send(verb, verb);
  const { consumers } = given.bus.jsm;
  const add = consumers.add.bind(consumers);
  t.mock.method(consumers, 'add', async (...args: Parameters<typeof add>) => {
    const info = await add(...args);
    return { ...info, num_pending: info.num_pending + 1 };
  });
  await given.controller.bus.js.publish('l3af.cmd.web2.deploy', 'of another host');

  const { deliveries, upTo } = await commandsOf(given).backlog(null);

  assert.deepEqual(
    deliveries.map(({ seq }) => seq),
    [1, 2],
  );
  assert.equal(upTo, 2);
});
