import { describe, test } from 'node:test';
import { repeats } from '../support/repeats.js';
import { checkSequences } from './check.js';
import { assertNotGrown, usageAtRest, WATCHED } from './growth.js';
import { openKernelWorld } from './kernel-world.js';

/*
 * Sends random commands over NATS to agents in separate processes, on the real kernel. After each command a probe
 * packet passes every chain out and back. The maps of all programs must show that it took the desired path exactly
 * once. At the end an agent uses no more resources than at its start.
 *
 *   L3AF_TEST_SEED=<seed> repeats the sequences of a run.
 */

/** Most of the time is spent waiting for the kernel, so several agents in parallel take little longer than one. */
const AGENTS = 2;
const SEQUENCES = repeats({ usual: 4, full: 12 });
const LENGTH = 30;

describe(`${AGENTS} agents on the kernel`, { concurrency: AGENTS }, () => {
  for (let number = 0; number < AGENTS; number++) {
    test(`${SEQUENCES} sequences of ${LENGTH} random commands give the results of the model, also for packets`, async (t) => {
      // given
      const world = await openKernelWorld(`property${number}`, WATCHED);
      t.after(() => world.close());
      await world.reset();
      const start = await usageAtRest(world.stage);

      // when
      const run = { number, sequences: SEQUENCES, length: LENGTH, damagePercent: 0 };
      await checkSequences(t, run, (intents) => world.playAnew(intents));

      // then
      await world.reset();
      const end = await assertNotGrown(world.stage, start, world.ids);
      t.diagnostic(`heap ${start.heap} to ${end.heap} bytes, journal ${end.journal} bytes`);
    });
  }
});
