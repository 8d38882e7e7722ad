import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/*
 * Preloaded into an agent's process (NODE_OPTIONS=--import=…): on SIGUSR2 it collects garbage and logs how many bytes
 * of the heap are in use.
 */

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

process.on('SIGUSR2', () => {
  collect();
  process.stderr.write(`${JSON.stringify({ msg: 'heap', used: process.memoryUsage().heapUsed })}\n`);
});
