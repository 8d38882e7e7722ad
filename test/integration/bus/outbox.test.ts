import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { insist } from '../../../src/bus/insist.js';
import { Outbox, type OutboxEntry, type OutboxStore } from '../../../src/bus/outbox.js';
import { STREAMS } from '../../../src/messages/subjects.js';
import { until } from '../../support/until.js';
import { atEnd, type Given, givenBus, strike } from './fixture.js';

/** A store in memory that checks that the outbox never confirms out of order. */
class Store implements OutboxStore {
  readonly confirmed: string[] = [];
  failuresLeft = 0;
  readonly #entries: OutboxEntry[] = [];
  readonly #onConfirm: (id: string) => Promise<void>;

  constructor(onConfirm: (id: string) => Promise<void> = async () => {}) {
    this.#onConfirm = onConfirm;
  }

  add(subject: string, ...ids: string[]): void {
    for (const id of ids) {
      this.#entries.push({ id, subject, headers: { 'L3AF-Command-Id': id }, body: JSON.stringify({ id }) });
    }
  }

  pending(): readonly OutboxEntry[] {
    return [...this.#entries];
  }

  async confirm(id: string): Promise<void> {
    assert.equal(this.#entries[0]?.id, id, 'confirmed out of order');
    if (this.failuresLeft > 0) {
      this.failuresLeft -= 1;
      throw new Error('the disk is full');
    }
    await this.#onConfirm(id);
    this.#entries.shift();
    this.confirmed.push(id);
  }
}

function outboxOf(t: TestContext, { bus, subjects, log }: Given, store: Store): Outbox {
  const outbox = new Outbox({ bus, subjects, store, logger: log });
  atEnd(t, () => outbox.stop());
  outbox.start();
  return outbox;
}

/**
 * The messages on the acknowledgement stream, in order. The request is repeated, since a server that was killed a
 * moment ago may lose it.
 */
async function stored({ bus }: Given): Promise<{ id: string; header: string | undefined }[]> {
  const { state } = await insist(bus, () => bus.jsm.streams.info(STREAMS.acks));
  const messages = [];
  for (let seq = state.first_seq; state.messages > 0 && seq <= state.last_seq; seq++) {
    const message = await insist(bus, () => bus.jsm.streams.getMessage(STREAMS.acks, { seq }));
    messages.push({ id: message.json<{ id: string }>().id, header: message.header.get('L3AF-Command-Id') });
  }
  return messages;
}

const ids = (count: number, first = 0) => Array.from({ length: count }, (_, index) => `id-${first + index}`);

test('entries reach their stream in order, with their headers, and are then removed', async (t) => {
  const given = await givenBus(t);
  const store = new Store();
  store.add(given.subjects.ack, ...ids(3));
  const outbox = outboxOf(t, given, store);

  await outbox.flush();
  store.add(given.subjects.ack, ...ids(2, 3));
  outbox.notify();
  await until('the entries added later', () => store.confirmed.length === 5);

  assert.deepEqual(
    await stored(given),
    ids(5).map((id) => ({ id, header: id })),
  );
  assert.deepEqual(store.pending(), []);
});

test('a flush waits for the entries that wait when it is called, and ends at once if there are none', async (t) => {
  const given = await givenBus(t);
  const store = new Store();
  const outbox = outboxOf(t, given, store);
  await outbox.flush();
  store.add(given.subjects.ack, ...ids(10));

  await outbox.flush();

  assert.deepEqual(store.confirmed, ids(10));
});

test('no entry is lost, doubled or out of order if the server is killed and started again after every entry', async (t) => {
  const given = await givenBus(t);
  const store = new Store();
  const outbox = outboxOf(t, given, store);
  const all = ids(12);

  for (const id of all) {
    store.add(given.subjects.ack, id);
    outbox.notify();
    // By chance, the kill comes before, during, or after the publication.
    await until(`${id} on its way`, () => Math.random() < 0.3 || store.confirmed.includes(id));
    await strike(given);
  }
  await outbox.flush();

  assert.deepEqual(
    (await stored(given)).map(({ id }) => id),
    all,
  );
});

test('an entry that was stored but could not be removed is published again, and stored once', async (t) => {
  const given = await givenBus(t);
  const store = new Store();
  store.failuresLeft = 2;
  store.add(given.subjects.ack, ...ids(2));
  const outbox = outboxOf(t, given, store);

  await outbox.flush();

  assert.deepEqual(
    (await stored(given)).map(({ id }) => id),
    ids(2),
  );
});

test('what was stored before the agent died is not stored again by its successor, even with a server killed between', async (t) => {
  const given = await givenBus(t);
  const dying = new Store(() => new Promise(() => {}));
  dying.add(given.subjects.ack, ...ids(2));
  const { bus, subjects, log } = given;
  new Outbox({ bus, subjects, store: dying, logger: log }).start();
  await until('the first entry stored', async () => (await stored(given)).length === 1);
  await given.server.kill('SIGKILL');
  await given.server.restart();
  await until('the connection', () => bus.connection.connected);

  const store = new Store();
  store.add(given.subjects.ack, ...ids(2));
  await outboxOf(t, given, store).flush();

  assert.deepEqual(
    (await stored(given)).map(({ id }) => id),
    ids(2),
  );
});

test('while the stream is missing nothing is confirmed; once it exists again everything arrives in order', async (t) => {
  const given = await givenBus(t);
  const { config } = await given.bus.jsm.streams.info(STREAMS.acks);
  await given.bus.jsm.streams.delete(STREAMS.acks);
  const store = new Store();
  store.add(given.subjects.ack, ...ids(3));
  const outbox = outboxOf(t, given, store);
  await until('a first failure', () => given.log.count('an answer was not confirmed by its stream; trying again') > 0);
  assert.deepEqual(store.confirmed, []);

  await given.bus.jsm.streams.add(config);
  await outbox.flush();

  assert.deepEqual(
    (await stored(given)).map(({ id }) => id),
    ids(3),
  );
});

test('a stop ends an unfinished flush with an error, and keeps the entries', async (t) => {
  const given = await givenBus(t);
  const store = new Store();
  const outbox = outboxOf(t, given, store);
  await given.server.kill('SIGKILL');
  await until('the loss of the connection', () => !given.bus.connection.connected);
  store.add(given.subjects.ack, 'kept');
  const flushed = assert.rejects(outbox.flush(), { code: 'BROKER_UNREACHABLE', transient: true });

  await outbox.stop();

  await flushed;
  assert.deepEqual(
    store.pending().map(({ id }) => id),
    ['kept'],
  );
});
