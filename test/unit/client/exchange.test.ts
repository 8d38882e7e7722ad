import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConnectionWatch } from '../../../src/bus/connection.js';
import { exchanged } from '../../../src/client/exchange.js';
import { AgentError } from '../../../src/errors.js';

const nobody = () => new AgentError('TIMEOUT', 'nobody');

/** A connection that is lost again and again, and always comes back. */
function losing(): { watch: ConnectionWatch; exchange: () => Promise<never>; tries: () => number } {
  let tries = 0;
  const watch = {
    closed: new AbortController().signal,
    guard: <T>(exchange: Promise<T>) => exchange,
    untilConnected: async () => {},
  } as unknown as ConnectionWatch;
  const exchange = async (): Promise<never> => {
    tries += 1;
    throw new AgentError('BROKER_UNREACHABLE', 'lost', { transient: true });
  };
  return { watch, exchange, tries: () => tries };
}

test('an exchange that has an end is not begun again after it, however long it may wait for a connection', async () => {
  const { watch, exchange, tries } = losing();
  const end = performance.now() - 1;
  await assert.rejects(exchanged(watch, exchange, { nobody, patienceMs: 60_000, end }), { code: 'BROKER_UNREACHABLE' });
  assert.equal(tries(), 1);
});

test('an exchange without an end is begun again while it may wait for the connection', async () => {
  const { watch, exchange, tries } = losing();
  await assert.rejects(exchanged(watch, exchange, { nobody, patienceMs: 500 }), { code: 'BROKER_UNREACHABLE' });
  assert.ok(tries() > 1);
});
