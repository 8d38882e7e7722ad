import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { connect, headers } from 'nats';
import { FleetClient } from '../../../src/client/fleet-client.js';
import type { AgentError } from '../../../src/errors.js';
import { HEADERS, STREAMS, subjectsFor } from '../../../src/messages/subjects.js';
import { startNats } from '../../support/nats.js';
import { SLOWNESS } from '../../support/until.js';
import { atEnd } from '../bus/fixture.js';

/* A controller whose server disappears while it waits for an answer. */

const HOST = 'web1';
const subjects = subjectsFor('l3af', HOST);
/** Longer than a test may take, so that an exchange that runs into its time-out fails the test. */
const LONG_MS = 60_000 * SLOWNESS;

async function givenFleet(t: TestContext, timeoutMs: number) {
  const server = await startNats();
  atEnd(t, () => server.stop());
  const nc = await connect({ servers: server.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  atEnd(t, () => nc.close());
  const jsm = await nc.jetstreamManager();
  await jsm.streams.add({ name: STREAMS.commands, subjects: [subjects.commandsAll] });
  await jsm.streams.add({ name: STREAMS.acks, subjects: [subjects.acksAll] });
  const fleet = await FleetClient.connect({ servers: [server.url], timeoutMs });
  atEnd(t, () => fleet.close());
  return { server, nc, fleet };
}

test('an exchange ends with an error that says what is known, if its server disappears and stays away', async (t) => {
  const { server, nc, fleet } = await givenFleet(t, 1_000);
  nc.subscribe(subjects.request('status'), { callback: () => {} });
  await nc.flush();
  const asked = fleet.status(HOST);
  await server.kill('SIGKILL');

  await assert.rejects(asked, { code: 'BROKER_UNREACHABLE', transient: true, message: /did not come back within 1 s/ });
  await assert.rejects(fleet.publish('deploy', HOST, [], { id: 'c1' }), (error: AgentError) => {
    assert.match(error.message, /it is unknown whether command c1 is stored/);
    return error.code === 'BROKER_UNREACHABLE';
  });
});

test('a request is sent again when its server disappears and comes back', async (t) => {
  const { server, nc, fleet } = await givenFleet(t, LONG_MS);
  let asked = 0;
  const heard = new Promise<void>((resolve) => {
    nc.subscribe(subjects.request('programs'), {
      callback: (_error, message) => {
        asked += 1;
        // The first answer never comes.
        if (asked > 1) message.respond(JSON.stringify({ host: HOST, programs: [] }));
        resolve();
      },
    });
  });
  await nc.flush();
  const answer = fleet.programs(HOST);
  await heard;

  await server.kill('SIGKILL');
  await server.restart();

  assert.deepEqual(await answer, { host: HOST, programs: [] });
});

test('an acknowledgement from the time when the server was away is received', async (t) => {
  const { server, nc, fleet } = await givenFleet(t, LONG_MS);
  const published = await fleet.publish('deploy', HOST, []);
  const waiting = fleet.waitForAck(HOST, published.id, { timeoutMs: LONG_MS });

  await server.kill('SIGKILL');
  await server.restart();
  const told = headers();
  told.set(HEADERS.commandId, published.id);
  const times = { received_at: '2026-01-01T00:00:00Z', finished_at: '2026-01-01T00:00:01Z', duration_ms: 1000 };
  const fields = { host: HOST, verb: 'deploy', seq: 1, status: 'applied', errors: [], programs: [] };
  const body = JSON.stringify({ id: published.id, ...fields, ...times });
  for (let stored = false; !stored; ) {
    const publish = nc.jetstream().publish(subjects.ack, body, { headers: told, timeout: 1_000 });
    stored = await publish.then(
      () => true,
      () => false,
    );
  }

  assert.equal((await waiting).status, 'applied');
});
