import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { connect, headers, type Msg, type NatsConnection } from 'nats';
import { FleetClient } from '../../../src/client/fleet-client.js';
import { HEADERS, STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats, type TestServer } from '../../support/nats.js';
import { until } from '../../support/until.js';

/*
 * Reading answers while JetStream does not do what it is asked: its requests pass through the test, which answers some
 * of them itself, or none.
 */

const HOST = 'web1';
const API = 'TEST.API';
const subjects = subjectsFor('l3af', HOST);
const MAKE = `${API}.CONSUMER.CREATE.`;
const PULL = `${API}.CONSUMER.MSG.NEXT.`;
/** How long one request may take. */
const PATIENCE_MS = 500;

type Trouble = (request: Msg) => void;

const silence: Trouble = () => {};
const status =
  (code: number, description: string): Trouble =>
  (request) =>
    request.respond('', { headers: headers(code, description) });
const refusal =
  (error: object): Trouble =>
  (request) =>
    request.respond(JSON.stringify({ type: 'io.nats.jetstream.api.v1.consumer_create_response', error }));
const noLeader = refusal({ code: 503, err_code: 10008, description: 'JetStream system temporarily unavailable' });
const noStream = refusal({ code: 404, err_code: 10059, description: 'stream not found' });

describe('a reader of answers', () => {
  let server: TestServer;
  let nc: NatsConnection;
  let fleet: FleetClient;
  let troubles: { readonly subject: string; readonly trouble: Trouble; times: number }[] = [];
  let asked: string[] = [];
  let stored = 0;

  before(async () => {
    server = await startNats();
    nc = await connect({ servers: server.url });
    const jsm = await nc.jetstreamManager();
    await jsm.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll] });
    nc.subscribe(`${API}.>`, {
      callback: (_error, request) => {
        asked.push(request.subject);
        const now = troubles.find(({ subject, times }) => times > 0 && request.subject.startsWith(subject));
        if (now === undefined) {
          const place = request.subject.replace(API, '$JS.API');
          return nc.publish(place, request.data, request.reply === undefined ? {} : { reply: request.reply });
        }
        now.times -= 1;
        now.trouble(request);
      },
    });
    await nc.flush();
    fleet = await FleetClient.connect({ servers: [server.url], jsApiPrefix: `${API}.`, timeoutMs: PATIENCE_MS });
  });
  after(async () => {
    await fleet.close();
    await nc.close();
    await server.stop();
  });
  beforeEach(() => {
    troubles = [];
    asked = [];
  });

  /** Stores the answer to a command as an agent does. @returns the command's id */
  async function answer(): Promise<string> {
    stored += 1;
    const id = `command-${stored}`;
    const times = { received_at: '2026-01-01T00:00:00Z', finished_at: '2026-01-01T00:00:01Z', duration_ms: 1000 };
    const fields = { host: HOST, verb: 'deploy', seq: stored, status: 'applied', errors: [], programs: [] };
    const told = headers();
    told.set(HEADERS.commandId, id);
    await nc.jetstream().publish(subjects.ack, JSON.stringify({ id, ...fields, ...times }), { headers: told });
    return id;
  }

  const passing: Record<string, readonly [subject: string, trouble: Trouble]> = {
    'no server answers the request for a consumer': [MAKE, silence],
    'the cluster has no leader': [MAKE, noLeader],
    'no server answers the request for messages': [PULL, silence],
    'the leader of the consumer changes': [PULL, status(409, 'Leadership Change')],
    'the consumer is gone': [PULL, status(503, 'No Responders')],
  };
  for (const [what, [subject, trouble]] of Object.entries(passing)) {
    it(`waits for an answer although ${what}`, async () => {
      troubles = [{ subject, trouble, times: 2 }];
      const id = await answer();

      assert.equal((await fleet.waitForAck(HOST, id, { timeoutMs: 20_000 })).id, id);
      assert.equal(troubles[0]?.times, 0);
    });

    it(`lists answers although ${what} once`, async () => {
      troubles = [{ subject, trouble, times: 1 }];
      const id = await answer();

      // A server that says nothing has used up all the time.
      if (trouble === silence) await assert.rejects(fleet.acks(HOST), { code: 'TIMEOUT', message: /leader/ });
      else assert.equal((await fleet.acks(HOST)).at(-1)?.id, id);
      assert.equal(troubles[0]?.times, 0);
    });
  }

  it('continues at the same answer when its consumer is lost while it waits', async () => {
    const waiting = fleet.waitForAck(HOST, `command-${stored + 2}`, { timeoutMs: 20_000 });
    await until('it to wait', () => asked.filter((subject) => subject.startsWith(PULL)).length > 1);
    await answer();
    const jsm = await nc.jetstreamManager();
    const [consumer] = await jsm.consumers.list(STREAMS.acks).next();
    await jsm.consumers.delete(STREAMS.acks, consumer!.name);
    const id = await answer();

    assert.equal((await waiting).id, id);
  });

  it('says at the end why it could not read', async () => {
    troubles = [{ subject: MAKE, trouble: noLeader, times: 1_000 }];

    await assert.rejects(fleet.waitForAck(HOST, 'never', { timeoutMs: 1_500 }), {
      code: 'TIMEOUT',
      message: /L3AF_ACK cannot be read: .*no leader/,
    });
    // It asks less often as time goes by.
    assert.ok(asked.length < 8, `${asked.length} requests`);
  });

  it('does not wait for a stream that is not there', async () => {
    troubles = [{ subject: MAKE, trouble: noStream, times: 1 }];

    await assert.rejects(fleet.waitForAck(HOST, 'never', { timeoutMs: 20_000 }), { code: 'BROKER_UNREACHABLE' });
  });
});

describe('a reader of answers whose account may not pull messages', () => {
  it('is refused at once, by name, and leaves no consumer behind', async () => {
    const denied = '$JS.API.CONSUMER.MSG.NEXT.L3AF_ACK.>';
    const server = await startNats({
      config: `authorization { users: [
        {user: all, password: a}, {user: some, password: s, permissions: {publish: {deny: ["${denied}"]}}} ] }`,
    });
    const nc = await connect({ servers: server.url, user: 'all', pass: 'a' });
    const jsm = await nc.jetstreamManager();
    await jsm.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll] });
    const fleet = await FleetClient.connect({ servers: [server.url.replace('//', '//some:s@')] });
    try {
      for (const read of [() => fleet.waitForAck(HOST, 'never', { timeoutMs: 20_000 }), () => fleet.acks(HOST)])
        await assert.rejects(read(), {
          code: 'BROKER_REFUSED',
          message: /not permitted to use \$JS\.API\.CONSUMER\.MSG/,
        });
      await until('no consumer', async () => (await jsm.consumers.list(STREAMS.acks).next()).length === 0);
    } finally {
      await fleet.close();
      await nc.close();
      await server.stop();
    }
  });
});
