import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Outbox, type OutboxEntry } from '../../../src/bus/outbox.js';
import { type Acknowledgement, parseAcknowledgement } from '../../../src/messages/ack.js';
import { HEADERS, STREAMS } from '../../../src/messages/subjects.js';
import { atEnd, type Given, givenBus } from './fixture.js';

/* Answers that their stream would never accept unchanged must not block those that follow. */

const MAX_PAYLOAD = 4096;

function answer(id: string, programs: number): Acknowledgement {
  const list = Array.from({ length: programs }, (_, n) => ({
    iface: 'eth0',
    direction: 'xdpingress' as const,
    name: `program-${n}`,
    version: '1.0',
    result: 'started' as const,
  }));
  const times = { received_at: '2026-01-01T00:00:00Z', finished_at: '2026-01-01T00:00:01Z', duration_ms: 1000 };
  return { id, host: 'web1', verb: 'deploy', seq: 1, status: 'applied', errors: [], programs: list, ...times };
}

function entry(subject: string, ack: Acknowledgement): OutboxEntry {
  return { id: `web1:${ack.id}`, subject, headers: { [HEADERS.commandId]: ack.id }, body: JSON.stringify(ack) };
}

/** Publishes entries. Returns the messages that are then on the stream, and what was reported about them. */
async function publish(t: TestContext, { bus, subjects, log }: Given, ...entries: OutboxEntry[]) {
  const waiting = [...entries];
  const store = { pending: () => [...waiting], confirm: async () => void waiting.shift() };
  const told: string[] = [];
  const outbox = new Outbox({ bus, subjects, store, logger: log, onAltered: (what) => void told.push(what) });
  atEnd(t, () => outbox.stop());
  outbox.start();
  await outbox.flush();
  const { state } = await bus.jsm.streams.info(STREAMS.acks);
  const stored: Acknowledgement[] = [];
  for (let seq = 1; seq <= state.last_seq; seq += 1) {
    const message = await bus.jsm.streams.getMessage(STREAMS.acks, { seq });
    assert.equal(message.subject, subjects.ack);
    stored.push(parseAcknowledgement(message.data));
  }
  return { stored, told };
}

test('an answer that was made under another prefix or host id goes to the current subject, which is reported', async (t) => {
  const given = await givenBus(t);

  const { stored, told } = await publish(
    t,
    given,
    entry('old.ack.web1', answer('c1', 1)),
    entry('l3af.ack.former-name', answer('c2', 1)),
    entry(given.subjects.ack, answer('c3', 1)),
  );

  assert.deepEqual(
    stored.map(({ id }) => id),
    ['c1', 'c2', 'c3'],
  );
  assert.equal(told.filter((what) => /another subject/.test(what)).length, 2);
});

test('an answer that is too large for the server is shortened until it fits, and says so', async (t) => {
  const given = await givenBus(t, { config: `max_payload: ${MAX_PAYLOAD}` });

  const { stored, told } = await publish(
    t,
    given,
    entry(given.subjects.ack, answer('large', 1000)),
    entry(given.subjects.ack, answer('small', 1)),
  );

  const [large, small] = stored;
  assert.deepEqual([large?.id, large?.status, small?.id], ['large', 'applied', 'small']);
  assert.ok(large!.programs.length > 0 && large!.programs.length < 1000);
  assert.match(large?.message ?? '', new RegExp(`^\\(shortened .*${large?.programs.length} of 1000 programs\\)$`));
  assert.deepEqual(small, answer('small', 1));
  assert.deepEqual([told.length, told[0]?.includes('shortened')], [1, true]);
});

test('an answer that is too large for its stream is shortened too, and dropped if that does not help', async (t) => {
  const given = await givenBus(t);
  const { config } = await given.bus.jsm.streams.info(STREAMS.acks);
  await given.bus.jsm.streams.update(STREAMS.acks, { ...config, max_msg_size: 1024 });

  const { stored, told } = await publish(
    t,
    given,
    entry(given.subjects.ack, answer('large', 1000)),
    entry(given.subjects.ack, answer('x'.repeat(2000), 1)),
    entry(given.subjects.ack, answer('small', 1)),
  );

  assert.deepEqual(
    stored.map(({ id }) => id),
    ['large', 'small'],
  );
  assert.match(told.at(-1) ?? '', /dropped/);
});
