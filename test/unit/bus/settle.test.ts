import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bus } from '../../../src/bus/connect.js';
import { settle } from '../../../src/bus/settle.js';

test('an agent that stops while its server is away does not wait for the confirmation of an acknowledgement', async () => {
  const [stopping, lost, closed] = [new AbortController(), new AbortController(), new AbortController()];
  lost.abort();
  const untilConnected = (signal: AbortSignal) =>
    new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  const guard = () => Promise.reject(new Error('The connection to NATS was lost'));
  const connection = { closed: closed.signal, untilConnected, guard };
  const bus = { nc: { request: () => Promise.resolve() }, connection } as unknown as Bus;

  const settled = settle(bus, '$JS.ACK.x', '+ACK', {
    deadlineMs: 60_000,
    signal: stopping.signal,
    session: lost.signal,
    isAwaited: guard,
  });
  stopping.abort();

  assert.equal(await settled, false);
});
