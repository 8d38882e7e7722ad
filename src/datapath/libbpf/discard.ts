import { setTimeout as sleep } from 'node:timers/promises';
import { parseGenerationName } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import { tryOpenId } from './fd.js';
import { holdersOf } from './holders.js';
import { removeTree } from './pins.js';

/** How long the kernel may take: it lets go of links and slots by work queues, within milliseconds as a rule. */
const PATIENCE_MS = 5000;
const LONGEST_PAUSE_MS = 100;

/** Unpins a generation and sees its program gone; see `Datapath.discard`. */
export async function discard(dir: string, programId: number | undefined, bpffs: string): Promise<void> {
  const isOurs =
    dir.startsWith(`${bpffs}/progs/`) && parseGenerationName(dir.slice(dir.lastIndexOf('/') + 1)) !== undefined;
  if (!isOurs) throw new AgentError('INTERNAL', `${dir} is no generation's directory, so it is not removed`);
  removeTree(dir, bpffs);
  if (programId === undefined || (await isGone(programId))) return;
  const holders = holdersOf(programId);
  const by = holders.length === 0 ? 'a pin elsewhere or a TC filter' : holders.join(', ');
  throw new AgentError('LEFTOVER', `Program ${programId} is unpinned but still in the kernel; it is held by ${by}`);
}

async function isGone(programId: number): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let pause = 1; isLoaded(programId); pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    if (performance.now() > deadline) return false;
    await sleep(pause);
  }
  return true;
}

function isLoaded(programId: number): boolean {
  using program = tryOpenId('prog', programId);
  return program !== undefined;
}
