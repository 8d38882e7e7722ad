import { setTimeout as sleep } from 'node:timers/promises';
import { styleFor } from '../../src/ctl/style.js';
import { Narrator } from './narrator.js';
import { offer } from './offer.js';
import { kernelObstacle, openStage, remnantsOf, type Stage } from './stage.js';
import { NEEDS_KERNEL, tellOfChains, tellOfTheEnd } from './story.js';

/*
 *   npm run demo              runs for about twenty seconds; exit status 0 only if every claim was verified
 *   npm run demo -- --keep    stops while the chains are attached, so that you can try commands until Ctrl-C
 */

const style = styleFor(process.stdout, process.env);
const write = (text: string) => process.stdout.write(text);
/** Prints what happens before and after the story. */
const tell = new Narrator(write, style);
const story = new Narrator(write, style);

/** Set when a signal asks this process to end. */
let interrupt: Error | undefined;
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interrupt = new Error(`Interrupted by ${signal}`);
      story.breakOff(interrupt);
      resolve();
    });
  }
});

process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((arg) => arg !== '--keep');
  if (unknown !== undefined) {
    process.stderr.write(`Expected only the argument --keep, got ${unknown}\n`);
    return 2;
  }
  const keep = args.includes('--keep');
  const began = performance.now();
  try {
    await perform(keep);
  } catch (error) {
    if (interrupt !== undefined) return 130;
    const [first, ...rest] = describe(error);
    tell.lines(['', style('red', `✖ ${first}`), ...rest, '']);
    return 1;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  const verdict = `Every claim was verified${keep ? '' : ` in ${seconds} seconds`}, and nothing is left behind.`;
  tell.lines(['', style(['green', 'bold'], verdict), '']);
  return 0;
}

async function perform(keep: boolean): Promise<void> {
  const obstacle = await kernelObstacle();
  if (interrupt !== undefined) throw interrupt;
  if (obstacle !== undefined) explain(obstacle);
  // Not interrupted, since nothing could clean up a stage that is only partly set up.
  const stage = await openStage(obstacle === undefined);
  try {
    await play(tellOfChains(stage, story));
    if (keep) {
      await offer(stage, story);
      await interrupted;
    } else {
      await play(tellOfTheEnd(stage, story));
    }
  } catch (error) {
    if (interrupt === undefined) complain(stage);
    throw error;
  } finally {
    tell.lines(['', style('dim', 'Cleaning up: agent, broker, network, mounts, files')]);
    await stage.close();
  }
  const [remnant] = remnantsOf(stage);
  if (remnant !== undefined) throw new Error(`${remnant} is left behind`);
}

const LONGEST_STEP_MS = 15_000;

/** Resolves when the part ends. On an interrupt, waits for the current step, which may be starting something. */
async function play(part: Promise<void>): Promise<void> {
  await Promise.race([part, interrupted]);
  if (interrupt === undefined) return;
  await Promise.race([part.catch(() => undefined), sleep(LONGEST_STEP_MS)]);
  throw interrupt;
}

function explain(obstacle: string): void {
  tell.lines(['', style('yellow', `eBPF cannot be used on this machine: ${obstacle}.`)]);
  tell.say('The demo runs on a datapath in memory and touches no interface. Only a kernel can show:');
  tell.say(...NEEDS_KERNEL.map((line) => `  ${line}`));
}

/** Prints the agent's warnings and errors, which usually show the cause. */
function complain({ agent }: Stage): void {
  const complaints = agent.logs().filter(({ level }) => level !== 'info' && level !== 'debug');
  if (complaints.length === 0) return;
  tell.say('', "From the agent's log:", '', ...complaints.map((line) => JSON.stringify(line)));
}

function describe(error: unknown): string[] {
  if (error instanceof AggregateError) return [error.message, ...error.errors.flatMap(describe)];
  return (error instanceof Error ? error.message : String(error)).split('\n');
}
