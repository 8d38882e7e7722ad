import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openBucket } from '../../../src/bus/bucket.js';
import { CommandStream, type CommandStreamOptions } from '../../../src/bus/command-stream.js';
import { connectBus } from '../../../src/bus/connect.js';
import type { Delivery } from '../../../src/bus/delivery.js';
import { originOf } from '../../../src/bus/message.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats } from '../../support/nats.js';
import { until } from '../../support/until.js';
import { atEnd, collectLog, type Given, givenBus, HOST, openBus, text, untilAnswered } from './fixture.js';

/** The agent's side, stopped after the test. */
function commandsOf(t: TestContext, given: Given, options: Partial<CommandStreamOptions> = {}): CommandStream {
  const { bus, subjects, log } = given;
  const commands = new CommandStream({ bus, subjects, host: HOST, logger: log, ...options });
  atEnd(t, () => commands.stop());
  return commands;
}

test('commands are delivered in the order of the stream, one at a time, with their headers', async (t) => {
  const given = await givenBus(t);
  const first = await given.controller.send('deploy', '[1]', {
    'Nats-Msg-Id': 'a',
    'L3AF-Gen': '2',
    'L3AF-Prev-Gen': '1',
    'L3AF-Expires': '2099-01-01T00:00:00Z',
  });
  await given.controller.send('add', '[2]');
  await given.controller.send('made-up', '[3]');
  const seen: Delivery[] = [];
  let inHand = 0;
  const commands = commandsOf(t, given);

  await commands.consume(0, async (delivery) => {
    inHand += 1;
    assert.equal(inHand, 1, 'two commands at once');
    await sleep(5);
    seen.push(delivery);
    inHand -= 1;
    return 'done';
  });
  await until('three commands', () => seen.length === 3);

  assert.deepEqual(
    seen.map(({ id, verb, body }) => [id, verb, text(body)]),
    [
      ['a', 'deploy', '[1]'],
      [`L3AF_CMD:${first + 1}`, 'add', '[2]'],
      [`L3AF_CMD:${first + 2}`, 'made-up', '[3]'],
    ],
  );
  const [deploy, add] = seen;
  assert.deepEqual([deploy?.gen, deploy?.prevGen, deploy?.expires], ['2', '1', '2099-01-01T00:00:00Z']);
  assert.deepEqual([add?.gen, add?.prevGen, add?.expires], [undefined, undefined, undefined]);
  const { created } = await commands.position();
  assert.equal(deploy?.streamCreated, created);
  assert.ok(Math.abs(Date.parse(deploy?.storedAt ?? '') - Date.now()) < 60_000);
  await untilAnswered(commands, first + 2);
});

test('a handler that throws gets the same command again, before any later one', async (t) => {
  const given = await givenBus(t);
  await given.controller.send('deploy', 'first');
  await given.controller.send('add', 'second');
  const seen: string[] = [];
  const commands = commandsOf(t, given);

  await commands.consume(0, async ({ body }) => {
    seen.push(text(body));
    if (seen.length === 1) throw new Error('the disk is full');
    return 'done';
  });
  await until('both commands', () => seen.includes('second'));

  assert.deepEqual(seen, ['first', 'first', 'second']);
  assert.equal(given.log.count('the command could not be handled'), 1);
});

test('a command that takes longer than the ack wait is marked as in progress and not delivered again', async (t) => {
  const given = await givenBus(t);
  await given.controller.send('deploy', 'slow');
  const commands = commandsOf(t, given, { ackWaitMs: 300 });
  let again: unknown = 'not checked yet';

  await commands.consume(0, async () => {
    // Another pull request at this moment would get what the server takes for lost.
    const consumer = await given.controller.bus.js.consumers.get(STREAMS.commands, HOST);
    again = await consumer.next({ expires: 1_200 });
    return 'done';
  });
  await untilAnswered(commands, 1);

  assert.equal(again, null);
});

test('a terminated command does not block the next one, and the server reports it', async (t) => {
  const given = await givenBus(t);
  await given.controller.send('deploy', 'bad');
  await given.controller.send('deploy', 'good');
  const seen: string[] = [];
  const commands = commandsOf(t, given);

  await commands.consume(0, async ({ body }) => {
    seen.push(text(body));
    return text(body) === 'bad' ? 'terminate' : 'done';
  });
  await untilAnswered(commands, 2);

  assert.deepEqual(seen, ['bad', 'good']);
  const subject = `$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.${STREAMS.commands}.${HOST}`;
  const advisory = await given.bus.jsm.streams.getMessage(STREAMS.events, { last_by_subj: subject });
  assert.equal(advisory.json<{ stream_seq: number }>().stream_seq, 1);
});

test('nothing at or below the given sequence is delivered, even if the consumer is behind', async (t) => {
  const given = await givenBus(t);
  const seen: string[] = [];
  const handler = async ({ body }: Delivery) => {
    seen.push(text(body));
    return 'done' as const;
  };
  const before = commandsOf(t, given);
  await before.consume(0, handler);
  await given.controller.send('deploy', '1');
  await until('the first command', () => seen.length === 1);
  await before.stop();
  for (const body of ['2', '3', '4']) await given.controller.send('add', body);

  await commandsOf(t, given).consume(3, handler);
  await until('the fourth command', () => seen.includes('4'));

  assert.deepEqual(seen, ['1', '4']);
});

test('commands of other hosts are not delivered, even if the name of a host begins in the same way', async (t) => {
  const given = await givenBus(t);
  for (const host of ['web', 'web12', 'web1_dc1'])
    await given.controller.bus.js.publish(`l3af.cmd.${host}.deploy`, host);
  await given.controller.send('deploy', HOST);
  const seen: string[] = [];

  await commandsOf(t, given).consume(0, async ({ body }) => {
    seen.push(text(body));
    return 'done';
  });
  await until('the own command', () => seen.length > 0);

  assert.deepEqual(seen, [HOST]);
});

test('a stop waits for the current command, and leaves the next one to the successor', async (t) => {
  const given = await givenBus(t);
  await given.controller.send('deploy', '1');
  await given.controller.send('add', '2');
  const seen: string[] = [];
  const commands = commandsOf(t, given);
  await commands.consume(0, async ({ body }) => {
    seen.push(`begun ${text(body)}`);
    await sleep(200);
    seen.push(`ended ${text(body)}`);
    return 'done';
  });
  await until('the first command in hand', () => seen.length === 1);

  await commands.stop();

  assert.deepEqual(seen, ['begun 1', 'ended 1']);
  const { consumerFloor } = await commands.position();
  assert.equal(consumerFloor, 1);
  await commandsOf(t, given).consume(1, async ({ body }) => {
    seen.push(text(body));
    return 'done';
  });
  await until('the second command', () => seen.length === 3);
});

test('a consumer with more than one unacknowledged message, or another filter, is refused with the name of the setting', async (t) => {
  const given = await givenBus(t);
  await given.bus.jsm.consumers.add(STREAMS.commands, {
    durable_name: HOST,
    filter_subject: 'l3af.cmd.web2.*',
    ack_policy: 'explicit' as never,
    max_ack_pending: 100,
  });

  await assert.rejects(
    commandsOf(t, given).consume(0, async () => 'done'),
    {
      code: 'STREAM_INCOMPATIBLE',
      message: /web1.*filter_subject is "l3af.cmd.web2.\*".*max_ack_pending is 100, wanted 1/,
    },
  );
});

test('an agent in an account of its own needs only imports to reach a controller’s JetStream', async (t) => {
  const server = await startNats({
    config: `accounts {
      CONTROL { jetstream: enabled, users: [{user: control, password: c}], exports: [
        {service: "$JS.API.>", response: stream}, {service: "$JS.ACK.>"}, {service: "$KV.>"} ] }
      HOSTS { users: [{user: agent, password: a, permissions: {subscribe: {deny: ["_INBOX.>"]}}}], imports: [
        {service: {account: CONTROL, subject: "$JS.API.>"}, to: "CONTROL.API.>"},
        {service: {account: CONTROL, subject: "$KV.>"}, to: "CONTROL.API.$KV.>"},
        {service: {account: CONTROL, subject: "$JS.ACK.>"}} ] }
    }`,
  });
  atEnd(t, () => server.stop());
  const subjects = subjectsFor('l3af', HOST);
  const control = await openBus(t, { url: server.url.replace('//', '//control:c@') }, collectLog());
  await ensureStreams(control, subjects, collectLog());
  await control.js.publish(subjects.command('deploy'), '1');
  const log = collectLog();
  const bus = await connectBus(
    {
      servers: [server.url.replace('//', '//agent:a@')],
      name: 'test',
      jsApiPrefix: 'CONTROL.API',
      inboxPrefix: '_HOST.web1',
      signal: AbortSignal.timeout(10_000),
    },
    log,
  );
  atEnd(t, () => bus.close());
  const commands = new CommandStream({ bus, subjects, host: HOST, logger: log });
  atEnd(t, () => commands.stop());
  const seen: string[] = [];

  seen.push(...(await commands.backlog(null)).deliveries.map(({ verb }) => verb));
  await commands.consume(0, async ({ verb, body }) => {
    seen.push(`${verb} ${text(body)}`);
    return 'done';
  });
  await untilAnswered(commands, 1);
  await (await openBucket(bus, STREAMS.state)).put(HOST, 'a snapshot');

  assert.deepEqual(seen, ['deploy', 'deploy 1']);
  assert.equal((await (await openBucket(control, STREAMS.state)).get(HOST))?.string(), 'a snapshot');
  assert.equal(log.count('NATS reports an error'), 0);
});

test('a reply subject of JetStream is parsed in each of its forms, and nothing else is accepted', () => {
  const origin = { deliveryCount: 2, seq: 7, storedAtMs: 1_700_000_000_097 };
  const tail = 'L3AF_CMD.web1.2.7.5.1700000000097999999.0';
  assert.deepEqual(originOf(`$JS.ACK.${tail}`), origin);
  assert.deepEqual(originOf(`$JS.ACK.hub.ACCHASH.${tail}`), origin);
  assert.deepEqual(originOf(`$JS.ACK._.ACCHASH.${tail}.random`), origin);
  for (const other of [undefined, '', '_INBOX.x', '$JS.ACK.too.short', '$JS.ACK.L3AF_CMD.web1.a.b.c.d.e']) {
    assert.equal(originOf(other), undefined);
  }
});
