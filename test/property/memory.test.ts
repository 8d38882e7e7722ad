import { after, before, test } from 'node:test';
import { checkSequences } from './check.js';
import { makeScratch, openMemoryWorld, type Scratch } from './memory-world.js';
import { play } from './sequence.js';

/*
 * Random commands against a whole agent in one process, with the datapath that is in memory. A failing sequence is cut down to what
 * matters and told command by command.
 *
 *   L3AF_TEST_SEED=<seed> plays one run's sequences again.
 */

const SEQUENCES = 150;
const LENGTH = 30;

let scratch: Scratch;
before(async () => {
  scratch = await makeScratch();
});
after(() => scratch.close());

test(`${SEQUENCES} sequences of ${LENGTH} random commands come out as the model says`, async (t) => {
  await checkSequences(t, { sequences: SEQUENCES, length: LENGTH, damagePercent: 5 }, async (intents) => {
    const world = await openMemoryWorld(scratch);
    try {
      await play(intents, world);
    } finally {
      await world.close();
    }
  });
});
