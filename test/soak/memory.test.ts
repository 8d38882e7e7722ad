import { after, before, test } from 'node:test';
import { checkSequences } from '../property/check.js';
import { makeScratch, openMemoryWorld, type Scratch } from '../property/memory-world.js';
import { play } from '../property/sequence.js';

/*
 * As test/property/memory.test.ts, for longer: ten sequences in memory for each one that test/soak/kernel.test.ts plays.
 *
 *   L3AF_SOAK_SEQUENCES=<n>   ten times so many sequences instead of ten times 100
 *   L3AF_TEST_SEED=<seed>     plays one run's sequences again
 */

const SEQUENCES = 10 * Number(process.env.L3AF_SOAK_SEQUENCES ?? 100);
const LENGTH = 60;

let scratch: Scratch;
before(async () => {
  scratch = await makeScratch();
});
after(() => scratch.close());

test(`${SEQUENCES} sequences of ${LENGTH} random commands and damages come out as the model says`, async (t) => {
  await checkSequences(t, { sequences: SEQUENCES, length: LENGTH, damagePercent: 15 }, async (intents) => {
    const world = await openMemoryWorld(scratch);
    try {
      await play(intents, world);
    } finally {
      await world.close();
    }
  });
});
