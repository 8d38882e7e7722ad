import { setTimeout as sleep } from 'node:timers/promises';

/** A cluster takes its time: it stores everything three times, and chooses leaders. */
export const SLOWNESS = process.env.L3AF_TEST_BROKER === 'cluster' ? 6 : 1;
const PATIENCE_MS = 30_000 * SLOWNESS;
const POLL_MS = 20;

/**
 * Calls `ask` repeatedly until the answer is not undefined. An error counts as no answer: a server may be down. On a
 * time-out it fails with what it has waited for.
 */
export async function untilGiven<T>(what: string, ask: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  let cause: unknown;
  while (performance.now() < deadline) {
    try {
      const given = await ask();
      if (given !== undefined) return given;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await sleep(POLL_MS);
  }
  throw new Error(`Waited ${PATIENCE_MS / 1000} s in vain: ${what}`, { cause });
}

export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  await untilGiven(what, async () => ((await condition()) ? true : undefined));
}
