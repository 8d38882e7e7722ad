import { test } from 'node:test';
import { checkSequences } from '../property/check.js';
import { assertNotGrown, usageAtRest, WATCHED } from '../property/growth.js';
import { openKernelWorld } from '../property/kernel-world.js';

/*
 * As test/property/kernel.test.ts, for longer, with one agent, and with damage from outside that the agent has to mend between commands.
 *
 *   L3AF_SOAK_SEQUENCES=<n>   so many sequences instead of 100 (3,000 commands)
 *   L3AF_TEST_SEED=<seed>     plays one run's sequences again
 */

const SEQUENCES = Number(process.env.L3AF_SOAK_SEQUENCES ?? 100);
const LENGTH = 30;

test(`${SEQUENCES} sequences of ${LENGTH} random commands and damages come out as the model says`, async (t) => {
  // given
  const world = await openKernelWorld('soak', { ...WATCHED, L3AF_RECONCILE_INTERVAL: '1s' });
  t.after(() => world.close());
  await world.reset();
  const start = await usageAtRest(world.stage);

  // when
  await checkSequences(t, { sequences: SEQUENCES, length: LENGTH, damagePercent: 15 }, (intents) =>
    world.playAnew(intents),
  );

  // then
  await world.reset();
  const end = await assertNotGrown(world.stage, start, world.ids);
  t.diagnostic(`heap ${start.heap} to ${end.heap} bytes, journal ${end.journal} bytes`);
});
