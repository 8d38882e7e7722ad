import { test } from 'node:test';
import { checkSequences } from '../property/check.js';
import { assertNotGrown, usageAtRest, WATCHED } from '../property/growth.js';
import { openKernelWorld } from '../property/kernel-world.js';

/*
 * Like test/property/kernel.test.ts, but longer, with one agent, and with damage that the agent must repair between
 * commands.
 *
 *   L3AF_SOAK_SEQUENCES=<n>   number of sequences instead of 100 (3,000 commands)
 *   L3AF_TEST_SEED=<seed>     repeats the sequences of an earlier run
 */

const SEQUENCES = Number(process.env.L3AF_SOAK_SEQUENCES ?? 100);
const LENGTH = 30;

test(`${SEQUENCES} sequences of ${LENGTH} random commands and damages end in the state that the model predicts`, async (t) => {
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
