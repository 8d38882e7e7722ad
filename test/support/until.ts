import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 30_000;
const POLL_MS = 20;

/**
 * Asks again and again until the answer is not undefined. An answer that fails counts as none: what is asked may be a server that is
 * away. A test that waits in vain fails with what it waited for.
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
