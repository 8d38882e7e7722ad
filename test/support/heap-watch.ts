import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/*
 * Preloaded into an agent's process (NODE_OPTIONS=--import=…): at SIGUSR2 it collects what nobody refers to, and writes a line to the
 * log that tells how many bytes of the heap are in use.
 */

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

process.on('SIGUSR2', () => {
  collect();
  process.stderr.write(`${JSON.stringify({ msg: 'heap', used: process.memoryUsage().heapUsed })}\n`);
});
