import assert from 'node:assert/strict';
import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandStream, type CommandStreamOptions } from '../../../src/bus/command-stream.js';
import type { Delivery, StreamPosition } from '../../../src/bus/delivery.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { BROKER_KIND } from '../../support/nats.js';
import { until } from '../../support/until.js';
import { atEnd, type Given, givenBus, HOST, strike, text, untilAnswered } from './fixture.js';

function commandsOf(t: TestContext, given: Given, options: Partial<CommandStreamOptions> = {}): CommandStream {
  const { bus, subjects, log } = given;
  const commands = new CommandStream({ bus, subjects, host: HOST, logger: log, pullExpiresMs: 500, ...options });
  atEnd(t, () => commands.stop());
  return commands;
}

/** A handler like the agent's: a command whose id is known is answered from the record, and does not run again. */
function recording(): { effects: string[]; handler: (delivery: Delivery) => Promise<'done'> } {
  const known = new Set<string>();
  const effects: string[] = [];
  return {
    effects,
    handler: async ({ id, body }) => {
      if (!known.has(id)) effects.push(text(body));
      known.add(id);
      return 'done';
    },
  };
}

test('an acknowledgement is repeated until the server has it, if the server is killed during the command', async (t) => {
  const given = await givenBus(t);
  const { server, controller } = given;
  const [first] = server.members;
  const { effects, handler } = recording();
  const commands = commandsOf(t, given);
  let losses = 0;
  given.bus.connection.onDisconnect(() => {
    losses += 1;
  });
  await controller.send('deploy', '1');

  await commands.consume(0, async (delivery) => {
    const disposition = await handler(delivery);
    if (losses === 0) await first.kill('SIGKILL');
    return disposition;
  });
  await until('the kill', () => losses > 0);
  await first.restart();
  await untilAnswered(commands, 1);
  await controller.send('add', '2');
  await until('the next command', () => effects.length === 2);

  assert.deepEqual(effects, ['1', '2']);
});

test('twenty commands are handled in order, each once, while the server is killed repeatedly', async (t) => {
  const given = await givenBus(t);
  const { controller } = given;
  const { effects, handler } = recording();
  const commands = commandsOf(t, given, { ackWaitMs: 2_000 });
  await commands.consume(0, handler);
  const bodies = Array.from({ length: 20 }, (_, index) => String(index));

  for (const body of bodies) {
    await controller.send('add', body, { 'Nats-Msg-Id': body });
    if (Number(body) % 5 === 2) await strike(given);
  }
  await until('all commands', () => effects.length >= bodies.length);

  assert.deepEqual(effects, bodies);
});

test('a connection that breaks while the server continues costs no command and no wait', async (t) => {
  const given = await givenBus(t);
  const { effects, handler } = recording();
  await commandsOf(t, given, { pullExpiresMs: 60_000 }).consume(0, handler);

  for (let round = 0; round < 5; round++) {
    await given.bus.nc.reconnect();
    await given.controller.send('add', String(round));
    await until(`command ${round}`, () => effects.includes(String(round)));
  }

  assert.deepEqual(effects, ['0', '1', '2', '3', '4']);
});

test('a consumer that somebody deletes is created again, and continues after the last handled command', async (t) => {
  const given = await givenBus(t);
  const seen: string[] = [];
  const resumed: StreamPosition[] = [];
  const onResume = async (position: StreamPosition) => {
    resumed.push(position);
    return undefined;
  };
  const commands = commandsOf(t, given);
  await given.controller.send('deploy', '1');
  await commands.consume(
    0,
    async ({ body }) => {
      seen.push(text(body));
      return 'done';
    },
    onResume,
  );
  await untilAnswered(commands, 1);

  await given.bus.jsm.consumers.delete(STREAMS.commands, HOST);
  await given.controller.send('add', '2');
  await until('the command after the deletion', () => seen.length > 1);

  assert.deepEqual(seen, ['1', '2']);
  assert.deepEqual(
    resumed.map(({ consumerFloor }) => consumerFloor),
    [undefined],
  );
});

test('a consumer that is deleted during a command does not make the command run again', async (t) => {
  const given = await givenBus(t);
  const seen: string[] = [];
  const commands = commandsOf(t, given);
  await given.controller.send('deploy', '1');

  await commands.consume(0, async ({ body }) => {
    seen.push(text(body));
    if (seen.length === 1) await given.bus.jsm.consumers.delete(STREAMS.commands, HOST);
    return 'done';
  });
  await given.controller.send('add', '2');
  await until('the next command', () => seen.length > 1);

  assert.deepEqual(seen, ['1', '2']);
});

test('a stream that is deleted and created again is consumed from its beginning', async (t) => {
  const given = await givenBus(t);
  const { bus, subjects, log } = given;
  const seen: string[] = [];
  const created = new Set<string>();
  const commands = commandsOf(t, given, {
    onStreamMissing: async () => {
      // nats-server 2.9 needs this time to finish the deletion of the old stream.
      await sleep(2_000);
      await ensureStreams(bus, subjects, log);
    },
  });
  for (const body of ['1', '2']) await given.controller.send('deploy', body);
  await commands.consume(0, async ({ body, streamCreated }) => {
    seen.push(text(body));
    created.add(streamCreated);
    return 'done';
  });
  await untilAnswered(commands, 2);

  await bus.jsm.streams.delete(STREAMS.commands);
  const exists = () =>
    bus.jsm.streams.info(STREAMS.commands).then(
      () => true,
      () => false,
    );
  await until('the new stream', exists);
  await given.controller.send('deploy', '3');
  await until('the command after', () => seen.length > 2);

  assert.deepEqual(seen, ['1', '2', '3']);
  assert.equal(created.size, 2, 'the new stream cannot be distinguished from the old one');
});

test('a store that is restored to an earlier state shows in the position, and new commands are delivered', async (t) => {
  const given = await givenBus(t);
  const { server, controller } = given;
  const { effects, handler } = recording();
  const resumed: StreamPosition[] = [];
  const onResume = async (position: StreamPosition) => {
    resumed.push(position);
    return undefined;
  };
  const commands = commandsOf(t, given);
  await commands.consume(0, handler, onResume);
  await controller.send('deploy', 'kept', { 'Nats-Msg-Id': 'kept' });
  await untilAnswered(commands, 1);
  await server.kill('SIGTERM');
  await server.saveStore();
  await server.restart();
  for (const body of ['lost', 'lost too']) await controller.send('deploy', body, { 'Nats-Msg-Id': body });
  await untilAnswered(commands, 3);
  const before = await commands.position();

  await server.kill('SIGKILL');
  await server.putBackStore();
  await server.restart();
  await controller.send('deploy', 'new', { 'Nats-Msg-Id': 'new' });
  await until('the new command', () => effects.includes('new'));

  assert.deepEqual(effects, ['kept', 'lost', 'lost too', 'new']);
  const after = resumed.at(-1);
  assert.equal(after?.created, before.created);
  assert.ok(after !== undefined && after.lastSeq < before.lastSeq, 'the sequence did not go back');
  assert.ok((after.consumerFloor ?? 0) < (before.consumerFloor ?? 0), 'the floor did not go back');
});

test('consuming continues if a power failure removed the newest commands but not the state of the consumer', async (t) => {
  // Its files are looked for where a single server has them.
  const given = await givenBus(t, { kind: BROKER_KIND === 'cluster' ? 'current' : BROKER_KIND });
  const { server, controller } = given;
  const { effects, handler } = recording();
  const commands = commandsOf(t, given);
  const messages = join(server.storeDir, 'jetstream', '$G', 'streams', STREAMS.commands, 'msgs');
  await commands.consume(0, handler);
  await controller.send('deploy', 'kept', { 'Nats-Msg-Id': 'kept' });
  await untilAnswered(commands, 1);
  await server.kill('SIGTERM');
  await cp(messages, `${messages}.saved`, { recursive: true });
  await server.restart();
  for (const body of ['lost', 'lost too']) await controller.send('deploy', body, { 'Nats-Msg-Id': body });
  await until('the lost commands', () => effects.length === 3);

  await server.kill('SIGTERM');
  await rm(messages, { recursive: true });
  await rename(`${messages}.saved`, messages);
  await server.restart();
  const seq = await controller.send('deploy', 'new', { 'Nats-Msg-Id': 'new' });
  await until('the new command', () => effects.includes('new'));

  assert.equal(seq, 2, 'the stream did not lose anything');
  assert.deepEqual(effects, ['kept', 'lost', 'lost too', 'new']);
});

test('when consuming resumes, the hook decides after which command', async (t) => {
  const given = await givenBus(t);
  const seen: string[] = [];
  const commands = commandsOf(t, given);
  for (const body of ['1', '2', '3']) await given.controller.send('add', body);
  await commands.consume(
    3,
    async ({ body }) => {
      seen.push(text(body));
      return 'done';
    },
    async () => 2,
  );

  await given.bus.jsm.consumers.delete(STREAMS.commands, HOST);
  await until('the command after the hook’s sequence', () => seen.length > 0);

  assert.deepEqual(seen, ['3']);
});
