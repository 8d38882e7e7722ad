import { setImmediate } from 'node:timers/promises';

/**
 * Resolves when everything is read that was written to pipes before. An agent logs before it answers, but the answer comes
 * by another way, and may be read first.
 */
export async function pipesRead(): Promise<void> {
  // Node reads pipes once in each turn of its event loop.
  for (let turn = 0; turn < 3; turn += 1) await setImmediate();
}
