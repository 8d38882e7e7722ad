import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ConsumerInfo, StreamInfo } from 'nats';
import { CommandStream } from '../../../src/bus/command-stream.js';
import { type Bus, connectBus } from '../../../src/bus/connect.js';
import { consumerInfo, ensureConsumer } from '../../../src/bus/consumer.js';
import type { Delivery } from '../../../src/bus/delivery.js';
import { Outbox, type OutboxEntry } from '../../../src/bus/outbox.js';
import { ensureStreams } from '../../../src/bus/streams.js';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { type Member, startNats, type TestServer } from '../../support/nats.js';
import { repeats } from '../../support/repeats.js';
import { createStreams } from '../../support/streams.js';
import { until, untilGiven } from '../../support/until.js';
import { atEnd, collectLog, HOST } from './fixture.js';

/*
 * What a cluster of three promises as long as two are up: whichever server dies, nothing is lost and no host is deaf. A
 * request to a stream or a consumer that has no leader at that moment gets no answer, so each is repeated.
 */

const subjects = subjectsFor('l3af', HOST);

interface Given {
  readonly cluster: TestServer;
  readonly bus: Bus;
}

async function givenCluster(t: TestContext, replicas = 3): Promise<Given> {
  const cluster = await startNats({ kind: 'cluster' });
  atEnd(t, () => cluster.stop());
  const servers = cluster.members.map(({ url }) => url);
  const bus = await connectBus({ servers, name: 'agent', signal: AbortSignal.timeout(20_000) }, collectLog());
  atEnd(t, () => bus.close());
  await createStreams(bus, subjects, replicas);
  await untilGiven('the streams', () => ensureStreams(bus, subjects, collectLog()));
  return { cluster, bus };
}

function member({ cluster }: Given, name: string | undefined): Member {
  const found = cluster.members.find((one) => one.name === name);
  assert.ok(found, `no server ${name}`);
  return found;
}

function consume(t: TestContext, { bus }: Given): { readonly stream: CommandStream; readonly taken: Delivery[] } {
  const stream = new CommandStream({ bus, subjects, host: HOST, logger: collectLog() });
  const taken: Delivery[] = [];
  atEnd(t, () => stream.stop());
  void stream.consume(
    0,
    async (delivery) => {
      taken.push(delivery);
      return 'done';
    },
    async () => undefined,
  );
  return { stream, taken };
}

function consumerOf({ bus }: Given): Promise<ConsumerInfo> {
  return untilGiven('the consumer', () => consumerInfo(bus, HOST));
}

function streamOf({ bus }: Given, stream: string): Promise<StreamInfo> {
  return untilGiven(`the stream ${stream}`, () => bus.jsm.streams.info(stream));
}

/** With the member that leads it, which a stream has no longer or not yet at times. */
function leaderOf(given: Given, stream: string): Promise<Member> {
  return untilGiven(`a leader of ${stream}`, async () => {
    const leader = (await streamOf(given, stream)).cluster?.leader;
    return leader === undefined || leader === '' ? undefined : member(given, leader);
  });
}

test('commands and answers go on, each once and in order, whichever leader of a stream is killed', async (t) => {
  const given = await givenCluster(t);
  const { cluster, bus } = given;
  const { taken } = consume(t, given);
  const waiting: OutboxEntry[] = [];
  const store = {
    pending: () => waiting,
    confirm: async (id: string) =>
      void waiting.splice(
        waiting.findIndex((entry) => entry.id === id),
        1,
      ),
  };
  const outbox = new Outbox({ bus, subjects, store, logger: collectLog() });
  outbox.start();
  atEnd(t, () => outbox.stop());
  const client = await FleetClient.connect({ servers: cluster.members.map(({ url }) => url) });
  atEnd(t, () => client.close());

  const ids: string[] = [];
  const streams = [STREAMS.commands, STREAMS.acks, STREAMS.events, `KV_${STREAMS.state}`, `KV_${STREAMS.hosts}`];
  for (const stream of streams.slice(0, repeats({ usual: 2, full: streams.length }))) {
    const leader = await leaderOf(given, stream);
    await leader.kill('SIGKILL');
    const id = `after-${stream}`;
    ids.push(id);
    waiting.push({ id, subject: subjects.ack, headers: {}, body: '{}' });
    outbox.notify();
    await until('the command to be stored', async () => {
      await client.publish('deploy', HOST, [], { id });
      return true;
    });
    await until('the command', () => taken.length === ids.length);
    await outbox.flush();
    await leader.restart();
  }

  assert.deepEqual(
    taken.map((delivery) => delivery.id),
    ids,
  );
  assert.equal((await streamOf(given, STREAMS.acks)).state.messages, ids.length);
  assert.deepEqual(bus.troubles.list(), []);
});

test('a client that every server refuses is told why, and can end its wait', async (t) => {
  const cluster = await startNats({ kind: 'cluster', config: 'authorization { user: agent, password: "s3cret" }' });
  atEnd(t, () => cluster.stop());
  const [{ url }] = cluster.members;
  const options = { servers: [url.replace('//', '//agent:wr0ng@')], name: 'agent' };
  const waiting = new AbortController();
  const refusals: string[] = [];

  const connecting = connectBus(
    { ...options, signal: waiting.signal, onRefused: (reason) => refusals.push(reason) },
    collectLog(),
  );
  await until('a refusal', () => refusals.length > 0);
  waiting.abort();

  await assert.rejects(connecting, { code: 'BROKER_UNREACHABLE' });
  await assert.rejects(FleetClient.connect(options), { code: 'BROKER_UNREACHABLE' });
  assert.match(refusals[0]!, /refused the credentials/i);
});

test('an agent that is given one server of a cluster goes on with another one', async (t) => {
  const cluster = await startNats({ kind: 'cluster' });
  atEnd(t, () => cluster.stop());
  const [first] = cluster.members;
  const bus = await connectBus({ servers: [first.url], name: 'agent' }, collectLog());
  atEnd(t, () => bus.close());

  await first.kill('SIGKILL');

  await until('the loss', () => bus.nc.getServer() !== first.url.slice('nats://'.length));
  await until('the connection to another server', () => bus.connection.connected);
});

test('the consumer inherits the replicas of its stream, and one that was made with fewer gets them', async (t) => {
  const given = await givenCluster(t);
  const { bus } = given;
  const spec = {
    name: HOST,
    filter: subjects.commandFilter,
    ackWaitMs: 30_000,
    after: 0,
    skip: false,
    lastSeq: 0,
    replicas: 3,
  };
  const ensure = () => untilGiven('the consumer to be ensured', () => ensureConsumer(bus, spec, collectLog()));
  const others = async () => (await consumerOf(given)).cluster?.replicas?.length ?? 0;
  await ensure();
  const { config } = await consumerOf(given);
  await until('the consumer on all servers', async () => (await others()) === 2);
  await until('the end of the consumer', async () => {
    if ((await consumerInfo(bus, HOST)) === undefined) return true;
    return bus.jsm.consumers.delete(STREAMS.commands, HOST);
  });
  await untilGiven('one on a single server', () =>
    bus.jsm.consumers.add(STREAMS.commands, { ...config, num_replicas: 1 }),
  );
  assert.equal(await others(), 0);

  await ensure();

  assert.equal(config.num_replicas, 0);
  await until('the other two servers', async () => (await others()) === 2);
});

test('a host whose consumer has no leader says so, and takes up what has waited when it has one again', async (t) => {
  const given = await givenCluster(t, 1);
  const { cluster, bus } = given;
  const { taken } = consume(t, given);
  const leader = await untilGiven('a leader of the consumer', async () => {
    const name = (await consumerOf(given)).cluster?.leader;
    return name === undefined || name === '' ? undefined : member(given, name);
  });
  await until('the first command to be stored', async () => {
    await bus.js.publish(subjects.command('deploy'), '[]', { msgID: 'first' });
    return true;
  });
  await until('the first command', () => taken.length === 1);

  await leader.kill('SIGKILL');
  await until('it to say so', () => bus.troubles.list().some(({ task }) => task === 'consuming'));
  const [trouble] = bus.troubles.list();
  await leader.restart();
  await until('the stream', async () => {
    await bus.js.publish(subjects.command('add'), '[]', { msgID: 'second' });
    return true;
  });
  await until('the second command', () => taken.length === 2);

  assert.match(trouble!.message, /^Commands cannot be taken: .*(leader|offline|answer)/);
  await until('the end of it', () => bus.troubles.list().length === 0);
  assert.equal(cluster.members.length, 3);
});

test('a consumer that is paused, deleted or not permitted is told, and consuming goes on afterwards', async (t) => {
  const server = await startNats({ kind: 'current' });
  atEnd(t, () => server.stop());
  const bus = await connectBus({ servers: [server.url], name: 'agent' }, collectLog());
  atEnd(t, () => bus.close());
  await ensureStreams(bus, subjects, collectLog());
  const given = { cluster: server, bus };
  const { taken } = consume(t, given);
  await bus.js.publish(subjects.command('deploy'), '[]');
  await until('the first command', () => taken.length === 1);

  await bus.jsm.consumers.pause(STREAMS.commands, HOST, new Date(Date.now() + 3_600_000));
  await bus.js.publish(subjects.command('add'), '[]');
  await until('it to say so', () =>
    bus.troubles.list().some(({ message }) => /is paused for another \d+ s/.test(message)),
  );
  assert.equal(taken.length, 1);
  await bus.jsm.consumers.resume(STREAMS.commands, HOST);
  await until('the second command', () => taken.length === 2);
  await until('the end of it', () => bus.troubles.list().length === 0);
});

test('a host that may not ask for its commands says which permission it lacks', async (t) => {
  const ask = `$JS.API.CONSUMER.MSG.NEXT.${STREAMS.commands}.>`;
  const server = await startNats({
    config: `authorization { users: [ {user: agent, password: a, permissions: {publish: {deny: ["${ask}"]}}} ] }`,
  });
  atEnd(t, () => server.stop());
  const url = server.url.replace('//', '//agent:a@');
  const bus = await connectBus({ servers: [url], name: 'agent' }, collectLog());
  atEnd(t, () => bus.close());
  await ensureStreams(bus, subjects, collectLog());
  consume(t, { cluster: server, bus });

  await until('it to say so', () => bus.troubles.list().length > 0);

  assert.match(bus.troubles.list()[0]!.message, /not permitted to use \$JS\.API\.CONSUMER\.MSG\.NEXT\.L3AF_CMD\.web1/);
});
