import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Deadline } from '../../src/deadline.js';

describe('a deadline', () => {
  it('ends a wait that nothing else refers to, whatever is collected meanwhile', async () => {
    const collect = globalThis.gc;
    assert.ok(collect !== undefined, 'the tests run with --expose-gc');
    const ended: boolean[] = [];
    const wait = async (): Promise<void> => {
      using deadline = new Deadline(200, new AbortController().signal);
      await new Promise<void>((resolve) => deadline.signal.addEventListener('abort', () => resolve(), { once: true }));
      ended.push(deadline.isOver);
    };
    const waits = Promise.all(Array.from({ length: 50 }, wait));
    for (let round = 0; round < 10; round += 1) {
      await sleep(10);
      collect();
    }

    await waits;

    assert.deepEqual(
      ended,
      Array.from({ length: 50 }, () => true),
    );
  });

  it('aborts when another signal does, with its reason', async () => {
    const other = new AbortController();
    using deadline = new Deadline(60_000, new AbortController().signal, other.signal);
    const aborted = once(deadline.signal, 'abort');
    other.abort('stopped');
    await aborted;

    assert.equal(deadline.signal.reason, 'stopped');
    assert.equal(deadline.isOver, false);
  });

  it('is aborted from the beginning where another signal was', () => {
    using deadline = new Deadline(60_000, AbortSignal.abort('before'));

    assert.equal(deadline.signal.reason, 'before');
  });

  it('tells that the time was over, also where there was none', async () => {
    using deadline = new Deadline(-5);
    if (!deadline.signal.aborted) await once(deadline.signal, 'abort');

    assert.equal(deadline.signal.reason.name, 'TimeoutError');
    assert.equal(deadline.isOver, true);
  });

  it('leaves nothing behind when it is let go of', async () => {
    const other = new AbortController();
    const signal = (() => {
      using deadline = new Deadline(20, other.signal);
      return deadline.signal;
    })();
    other.abort();
    await sleep(50);

    assert.equal(signal.aborted, false);
  });
});
