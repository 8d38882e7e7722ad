import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AckPolicy, connect, headers, type JsMsg, type NatsConnection } from 'nats';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { AgentError } from '../../../src/errors.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import type { ReplyOf } from '../../../src/messages/requests.js';
import { HEADERS, hostToken, STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { until } from '../../support/until.js';

const HOST = 'web1.dc1';
const subjects = subjectsFor('l3af', hostToken(HOST));
const PAYLOAD = [{ host_name: HOST, iface: 'eth1', bpf_programs: { xdp_ingress: [] } }];

const STARTED = '2026-01-01T00:00:00.000Z';
const LAST = { verb: 'deploy' as const, seq: 7, status: 'applied' as const, finished_at: STARTED };
const STATUS: ReplyOf<'status'> = {
  host: HOST,
  version: '1.0.0',
  instance_id: 'instance',
  started_at: STARTED,
  ready: true,
  datapath: 'libbpf',
  queued: 0,
  hooks: [],
};

function rejectsWith(code: string, words: RegExp) {
  return (error: unknown) => error instanceof AgentError && error.code === code && words.test(error.message);
}

function acknowledgement(id: string, seq: number, fields: Partial<Acknowledgement> = {}): Acknowledgement {
  const now = new Date().toISOString();
  const times = { received_at: now, finished_at: now, duration_ms: 1.5 };
  return { id, host: HOST, verb: 'deploy', seq, status: 'applied', errors: [], programs: [], ...times, ...fields };
}

describe('a controller', () => {
  let server: TestServer;
  let nc: NatsConnection;
  let fleet: FleetClient;

  /** Stores an acknowledgement as an agent does. */
  async function answer(ack: Acknowledgement, subject = subjects.ack): Promise<void> {
    const told = headers();
    told.set(HEADERS.commandId, ack.id);
    await nc.jetstream().publish(subject, JSON.stringify(ack), { headers: told });
  }

  async function lastCommand(): Promise<JsMsg> {
    const consumer = await nc.jetstream().consumers.get(STREAMS.commands);
    let last: JsMsg | undefined;
    for await (const message of await consumer.consume()) {
      last = message;
      if (message.info.pending === 0) break;
    }
    assert.ok(last);
    return last;
  }

  before(async () => {
    server = await startNats();
    nc = await connect({ servers: server.url });
    const jsm = await nc.jetstreamManager();
    await jsm.streams.add({ name: STREAMS.commands, subjects: [subjects.commandsAll], allow_direct: true });
    await jsm.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll] });
    fleet = await FleetClient.connect({ servers: [server.url], timeoutMs: 2_000 });
  });

  after(async () => {
    await fleet.close();
    await nc.close();
    await server.stop();
  });

  it('publishes a command with its id, generations and expiry', async () => {
    const options = { id: 'cmd-1', gen: 7, prevGen: 6, expires: new Date('2026-01-31T12:00:00Z') };
    const published = await fleet.publish('deploy', HOST, PAYLOAD, options);

    const message = await lastCommand();
    assert.deepEqual(published, { id: 'cmd-1', seq: message.seq, duplicate: false });
    assert.equal(message.subject, 'l3af.cmd.web1_dc1.deploy');
    assert.deepEqual(message.json(), PAYLOAD);
    const told = ['Nats-Msg-Id', 'L3AF-Gen', 'L3AF-Prev-Gen', 'L3AF-Expires'].map((name) => message.headers?.get(name));
    assert.deepEqual(told, ['cmd-1', '7', '6', '2026-01-31T12:00:00.000Z']);
  });

  it('gives a command an id if the caller has none, and sends bytes unchanged', async () => {
    const published = await fleet.publish('add', HOST, new TextEncoder().encode(' [ ] '));

    const message = await lastCommand();
    assert.match(published.id, /^[0-9a-f-]{36}$/);
    assert.equal(message.headers?.get('Nats-Msg-Id'), published.id);
    assert.equal(message.string(), ' [ ] ');
  });

  it('learns that a command of that id was stored before', async () => {
    const first = await fleet.publish('deploy', HOST, PAYLOAD, { id: 'twice' });
    const second = await fleet.publish('deploy', HOST, PAYLOAD, { id: 'twice' });

    assert.deepEqual(second, { ...first, duplicate: true });
  });

  it('gets the answer to its own command, not to another one', async () => {
    const agent = nc.subscribe(subjects.command('deploy'), {
      max: 1,
      callback: async (_error, message) => {
        const id = message.headers?.get('Nats-Msg-Id') ?? '';
        await answer(acknowledgement('somebody-elses', 1));
        await answer(acknowledgement(id, 2, { host: 'web2' }), subjectsFor('l3af', 'web2').ack);
        await answer(acknowledgement(id, 3, { status: 'unchanged' }));
      },
    });
    const { published, acknowledgement: answered } = await fleet.send('deploy', HOST, PAYLOAD, { timeoutMs: 10_000 });
    agent.unsubscribe();

    assert.equal(answered.id, published.id);
    assert.equal(answered.host, HOST);
    assert.equal(answered.status, 'unchanged');
  });

  it('gets an answer that was given earlier, also when it sends the command again', async () => {
    await fleet.publish('deploy', HOST, PAYLOAD, { id: 'early' });
    const given = acknowledgement('early', 9, { status: 'applied' });
    await answer(given);

    assert.deepEqual(await fleet.waitForAck(HOST, 'early', { timeoutMs: 10_000 }), given);
    const again = await fleet.send('deploy', HOST, PAYLOAD, { id: 'early', timeoutMs: 10_000 });
    assert.equal(again.published.duplicate, true);
    assert.deepEqual(again.acknowledgement, given);
  });

  it('gets an error when no answer comes, which says that the command is stored and that no agent is there', async () => {
    await assert.rejects(
      fleet.send('deploy', HOST, PAYLOAD, { id: 'unanswered', timeoutMs: 200 }),
      rejectsWith(
        'TIMEOUT',
        /web1\.dc1 has not answered command unanswered within 0\.2 s; the command is stored, .* no agent answers/,
      ),
    );
  });

  const full = { task: 'storing' as const, message: 'The NATS server has no space left for L3AF_ACK' };
  const FATES: readonly (readonly [string, Partial<ReplyOf<'status'>>, RegExp])[] = [
    ['is still to run it', {}, /; the command is stored, and the host will run it as soon as it can$/],
    [
      'cannot store anything',
      { troubles: [full] },
      /the command is stored, .* as it can\. It reports: The NATS server has no space left for L3AF_ACK$/,
    ],
    [
      'has run it and cannot store the answer',
      { troubles: [full], last_command: { ...LAST, id: 'silent-2' } },
      /; the host has run it \(applied\), but has not stored its answer\. It reports: The NATS server has no space/,
    ],
    [
      'has gone on',
      { last_command: { ...LAST, id: 'later', seq: 10_000 } },
      /; the host has handled it, and later ones$/,
    ],
    ['has run it', { last_command: { ...LAST, id: 'silent-4' } }, /; the host has run it \(applied\)$/],
  ];
  for (const [index, [what, status, words]] of FATES.entries()) {
    it(`learns from a host without an answer that it ${what}`, async () => {
      const agent = nc.subscribe(subjects.request('status'), {
        callback: (_error, message) => void message.respond(JSON.stringify({ ...STATUS, ...status })),
      });
      await assert.rejects(
        fleet.send('deploy', HOST, PAYLOAD, { id: `silent-${index}`, timeoutMs: 100 }),
        rejectsWith('TIMEOUT', words),
      );
      agent.unsubscribe();
    });
  }

  it('learns that a command is stored whose answer it cannot wait for, because no more consumers are allowed', async () => {
    const other = await startNats();
    const narrow = await connect({ servers: other.url });
    const there = await narrow.jetstreamManager();
    await there.streams.add({ name: STREAMS.commands, subjects: [subjects.commandsAll] });
    await there.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll], max_consumers: 1 });
    await there.consumers.add(STREAMS.acks, { durable_name: 'only', ack_policy: AckPolicy.None });
    const controller = await FleetClient.connect({ servers: [other.url], timeoutMs: 2_000 });

    await assert.rejects(
      controller.send('deploy', HOST, PAYLOAD, { timeoutMs: 300 }),
      rejectsWith('TIMEOUT', /L3AF_ACK has as many consumers .* whoever waits for an answer .*; the command is stored/),
    );

    assert.equal((await there.streams.info(STREAMS.commands)).state.messages, 1);
    await controller.close();
    await narrow.close();
    await other.stop();
  });

  it('leaves no consumer behind', async () => {
    const jsm = await nc.jetstreamManager();

    await until('no consumer', async () => (await jsm.consumers.list(STREAMS.acks).next()).length === 0);
  });

  it('reads the last acknowledgements of one host, oldest first, however far back they lie', async () => {
    const other = subjectsFor('l3af', 'db1');
    for (let seq = 1; seq <= 5; seq += 1) await answer(acknowledgement(`db-${seq}`, seq, { host: 'db1' }), other.ack);
    for (let seq = 1; seq <= 300; seq += 1) nc.publish(subjects.ack, JSON.stringify(acknowledgement('filler', seq)));
    await nc.flush();

    const list = await fleet.acks('db1', { limit: 3 });
    assert.deepEqual(
      list.map(({ id }) => id),
      ['db-3', 'db-4', 'db-5'],
    );
    assert.equal((await fleet.acks('db1', { limit: 50 })).length, 5);
    assert.deepEqual(await fleet.acks('never-seen'), []);
  });

  it("asks one agent, and passes on the agent's refusal", async () => {
    const agent = nc.subscribe(subjects.request('programs'), {
      callback: (_error, message) => {
        const { iface } = message.json<{ iface?: string }>();
        if (iface === 'eth9') {
          const refusal = headers();
          refusal.set('Nats-Service-Error', 'there is no eth9');
          refusal.set('Nats-Service-Error-Code', '400');
          message.respond('', { headers: refusal });
        } else message.respond(JSON.stringify({ host: HOST, programs: [], iface }));
      },
    });
    await nc.flush();

    assert.deepEqual(await fleet.programs(HOST, { iface: 'eth1' }), { host: HOST, programs: [] });
    await assert.rejects(fleet.programs(HOST, { iface: 'eth9' }), rejectsWith('INTERNAL', /there is no eth9/));
    agent.unsubscribe();
  });

  it('asks all agents and ignores one with an invalid answer', async () => {
    const agents = ['a', 'b', 'nonsense'].map((name) =>
      nc.subscribe(subjects.requestAll('programs'), {
        callback: (_error, message) =>
          message.respond(JSON.stringify(name === 'nonsense' ? [] : { host: name, programs: [] })),
      }),
    );
    await nc.flush();
    const faults: unknown[] = [];
    const list = await fleet.requestAll('programs', {}, { gatherMs: 500, onFault: (error) => faults.push(error) });
    for (const agent of agents) agent.unsubscribe();

    assert.deepEqual(list.map(({ host }) => host).toSorted(), ['a', 'b']);
    assert.equal(faults.length, 1);
  });

  it('gets an error when there is no agent', async () => {
    await assert.rejects(fleet.status('nobody'), rejectsWith('TIMEOUT', /No agent answers for nobody/));
    assert.deepEqual(await fleet.requestAll('status', {}, { gatherMs: 200 }), []);
  });

  it('gets an error when the fleet has no streams on the server', async () => {
    const lost = await FleetClient.connect({ servers: [server.url], prefix: 'elsewhere' });

    await assert.rejects(
      lost.publish('deploy', HOST, PAYLOAD),
      rejectsWith('BROKER_UNREACHABLE', /No stream takes commands on elsewhere\.cmd\.web1_dc1\.deploy/),
    );
    await lost.close();
  });

  it('refuses an invalid host name', async () => {
    await assert.rejects(fleet.publish('deploy', 'web*', PAYLOAD), rejectsWith('CONFIG_INVALID', /host name/));
  });

  it('gets an error when NATS cannot be reached, or a file of credentials cannot be read', async () => {
    await assert.rejects(
      FleetClient.connect({ servers: ['nats://127.0.0.1:1'] }),
      rejectsWith('BROKER_UNREACHABLE', /the connection was refused/),
    );
    await assert.rejects(
      FleetClient.connect({ servers: [server.url], credsFile: '/nonexistent.creds' }),
      rejectsWith('CONFIG_INVALID', /nonexistent\.creds/),
    );
  });
});
