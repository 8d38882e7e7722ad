import { after, before, test } from 'node:test';
import { checkSequences } from '../property/check.js';
import { makeScratch, openMemoryWorld, type Scratch } from '../property/memory-world.js';
import { play } from '../property/sequence.js';

/*
 * Like test/property/memory.test.ts, but longer. It plays ten times as many sequences as test/soak/kernel.test.ts.
 *
 *   L3AF_SOAK_SEQUENCES=<n>   ten times this number of sequences, instead of ten times 100
 *   L3AF_TEST_SEED=<seed>     repeats the sequences of an earlier run
 */

const SEQUENCES = 10 * Number(process.env.L3AF_SOAK_SEQUENCES ?? 100);
const LENGTH = 60;

let scratch: Scratch;
before(async () => {
  scratch = await makeScratch();
});
after(() => scratch.close());

test(`${SEQUENCES} sequences of ${LENGTH} random commands and damages end in the state that the model predicts`, async (t) => {
  await checkSequences(t, { sequences: SEQUENCES, length: LENGTH, damagePercent: 15 }, async (intents) => {
    const world = await openMemoryWorld(scratch);
    try {
      await play(intents, world);
    } finally {
      await world.close();
    }
  });
});
