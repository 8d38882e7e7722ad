import { after, before, test } from 'node:test';
import { repeats } from '../support/repeats.js';
import { checkSequences } from './check.js';
import { makeScratch, openMemoryWorld, type Scratch } from './memory-world.js';
import { play } from './sequence.js';

/*
 * Runs random commands on a whole agent in one process, with the memory datapath. A failing sequence is shrunk and
 * printed command by command.
 *
 *   L3AF_TEST_SEED=<seed> repeats the sequences of a run.
 */

const SEQUENCES = repeats({ usual: 20, full: 150 });
const LENGTH = 30;

let scratch: Scratch;
before(async () => {
  scratch = await makeScratch();
});
after(() => scratch.close());

test(`${SEQUENCES} sequences of ${LENGTH} random commands give the results of the model`, async (t) => {
  await checkSequences(t, { sequences: SEQUENCES, length: LENGTH, damagePercent: 5 }, async (intents) => {
    const world = await openMemoryWorld(scratch);
    try {
      await play(intents, world);
    } finally {
      await world.close();
    }
  });
});
