import { Journal } from '../../../src/store/journal.js';
import { answerTo, commandKey, desiring, finished } from './samples.js';

/**
 * A process for journal-kill.test.ts. It handles one command after another, and prints each finished one to standard
 * output.
 */
const [dir] = process.argv.slice(2);
if (dir !== undefined) {
  const journal = new Journal({ dir, compactAbove: 4096, maxRecords: 8 });
  await journal.open();
  for (let seq = (journal.stream?.lastSeq ?? 0) + 1; ; seq += 1) {
    const key = commandKey(seq);
    await journal.begin(key, 'deploy');
    await journal.finish(finished(key, { desired: desiring(`program-${seq}`), generation: seq }));
    process.stdout.write(`${seq}\n`);
    await journal.confirm(answerTo(key).id);
  }
}
