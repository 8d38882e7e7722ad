import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pause, pauseAfter, type RetryOptions, retry } from '../../src/retry.js';

const AT_ONCE = { firstMs: 0, capMs: 0 };
const NEVER = { firstMs: 3_600_000, capMs: 3_600_000 };

/** Fails so many times, each time with the number of the try. */
function failing(times: number): (tries: number) => Promise<string> {
  return async (tries) => {
    if (tries <= times) throw new Error(`try ${tries}`);
    return `done by try ${tries}`;
  };
}

describe('the pauses', () => {
  test('are each twice as long as the one before, up to a limit', () => {
    const backoff = { firstMs: 250, capMs: 1_500 };
    assert.deepEqual(
      [1, 2, 3, 4, 5, 1_000_000].map((tries) => pauseAfter(tries, backoff)),
      [250, 500, 1_000, 1_500, 1_500, 1_500],
    );
  });

  test('are spread by a quarter', () => {
    const pauses = Array.from({ length: 200 }, () => pauseAfter(1, { firstMs: 100, capMs: 100, isSpread: true }));
    assert.ok(pauses.every((ms) => ms >= 75 && ms <= 125));
    assert.ok(new Set(pauses).size > 100);
  });
});

describe('a task that fails', () => {
  test('is tried until it succeeds, and each failure is told', async () => {
    const told: [string, number][] = [];
    const onRetry = (failure: unknown, tries: number) => told.push([(failure as Error).message, tries]);
    assert.equal(await retry(failing(2), { backoff: AT_ONCE, onRetry }), 'done by try 3');
    assert.deepEqual(told, [
      ['try 1', 1],
      ['try 2', 2],
    ]);
  });

  test('is not tried again when its failure is not worth it', async () => {
    const isPassing: RetryOptions['isPassing'] = (_failure, tries) => tries < 2;
    await assert.rejects(retry(failing(5), { backoff: AT_ONCE, isPassing }), { message: 'try 2' });
  });

  test('fails for good when the signal ends the pause', async () => {
    const stopping = new AbortController();
    const onRetry = () => setImmediate(() => stopping.abort());
    const options = { backoff: NEVER, signal: stopping.signal, onRetry };
    await assert.rejects(retry(failing(1), options), { message: 'try 1' });
  });

  test('is tried once more after the signal where that is asked for', async () => {
    const stopping = new AbortController();
    const onRetry = () => setImmediate(() => stopping.abort());
    const options = { backoff: NEVER, signal: stopping.signal, onAbort: 'try-once-more', onRetry } as const;
    await assert.rejects(retry(failing(5), options), { message: 'try 2' });
  });

  test('fails for good when the signal came during the try', async () => {
    const stopping = new AbortController();
    const task = async () => {
      stopping.abort();
      throw new Error('too late');
    };
    const options = { backoff: NEVER, signal: stopping.signal, onAbort: 'try-once-more' } as const;
    await assert.rejects(retry(task, options), { message: 'too late' });
  });
});

test('a pause ends with its signal', async () => {
  await pause(3_600_000, AbortSignal.abort());
  await pause(0);
});
