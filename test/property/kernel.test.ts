import { describe, test } from 'node:test';
import { checkSequences } from './check.js';
import { assertNotGrown, usageAtRest, WATCHED } from './growth.js';
import { openKernelWorld } from './kernel-world.js';

/*
 * Random commands over the bus to agents that are processes of their own, on the real kernel. After each command a probe goes through
 * every chain and back, and the maps of all programs have to say that it came by the way that is asked for, once. At the end an agent
 * holds no more than at its start.
 *
 *   L3AF_TEST_SEED=<seed> plays one run's sequences again.
 */

/** Most of a command's time is waiting for the kernel, so that two agents side by side need little more than one. */
const AGENTS = 2;
const SEQUENCES = 12;
const LENGTH = 30;

describe(`${AGENTS} agents on the kernel`, { concurrency: AGENTS }, () => {
  for (let number = 0; number < AGENTS; number++) {
    test(`${SEQUENCES} sequences of ${LENGTH} random commands come out as the model says, for packets too`, async (t) => {
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
