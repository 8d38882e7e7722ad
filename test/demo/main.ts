import { setTimeout as sleep } from 'node:timers/promises';
import { styleFor } from '../../src/ctl/style.js';
import { Narrator } from './narrator.js';
import { offer } from './offer.js';
import { kernelObstacle, openStage, remnantsOf, type Stage } from './stage.js';
import { NEEDS_KERNEL, tellOfChains, tellOfTheEnd } from './story.js';

/*
 *   npm run demo              a story of some twenty seconds; exit status 0 only if everything in it was seen to be so
 *   npm run demo -- --keep    stops with the chains in place, for playing with them, until Ctrl-C
 */

const style = styleFor(process.stdout, process.env);
const write = (text: string) => process.stdout.write(text);
/** What frames the story. */
const tell = new Narrator(write, style);

const interrupt = new Error('Interrupted');
const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interruption.abort(interrupt));

process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((arg) => arg !== '--keep');
  if (unknown !== undefined) {
    process.stderr.write(`Expected no argument but --keep, got ${unknown}\n`);
    return 2;
  }
  const began = performance.now();
  const keep = args.includes('--keep');
  try {
    await perform(keep);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    const verdict = `All of it was seen to be so${keep ? '' : `, in ${seconds} seconds`}, and nothing is left behind.`;
    tell.lines(['', style(['green', 'bold'], verdict), '']);
    return 0;
  } catch (error) {
    if (error === interrupt) return 130;
    const [first, ...rest] = describe(error);
    tell.lines(['', style('red', `✖ ${first}`), ...rest, '']);
    return 1;
  }
}

async function perform(keep: boolean): Promise<void> {
  const stage = await setUp();
  try {
    await broken(stage, tellOfChains);
    if (keep) {
      await offer(stage, tell);
      await interrupted().catch(() => undefined);
    } else {
      await broken(stage, tellOfTheEnd);
    }
  } catch (error) {
    if (error !== interrupt) complain(stage);
    throw error;
  } finally {
    tell.lines(['', style('dim', 'Taking the stage down: agent, broker, network, mounts, files')]);
    await stage.close();
  }
  const [remnant] = remnantsOf(stage);
  if (remnant !== undefined) throw new Error(`${remnant} is left behind`);
}
