import { setTimeout as sleep } from 'node:timers/promises';
import { furtherLinkPin, parseGenerationName, parseProbesName, slotPin, stagePin } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import type { KernelIds } from '../datapath.js';
import { holdersOf } from './holders.js';
import { exists } from './ids.js';
import { removeEmptyParents, removeTree } from './pins.js';
import { emptySlot, tryOpenSlot } from './slot.js';

/**
 * How long the kernel may take: it lets go of links, slots and maps by work queues and after RCU grace periods, within tens of
 * milliseconds as a rule. Whatever has a holder that can be named is not waited for longer than the first.
 */
const EXPLAINED_MS = 1000;
const PATIENCE_MS = 5000;
const LONGEST_PAUSE_MS = 50;

/** See `Datapath.discard`. */
export function discard(dir: string, bpffs: string): void {
  const name = dir.slice(dir.lastIndexOf('/') + 1);
  const isOurs =
    dir.startsWith(`${bpffs}/progs/`) && (parseGenerationName(name) ?? parseProbesName(name)) !== undefined;
  if (!isOurs) throw new AgentError('INTERNAL', `${dir} is no generation's directory, so it is not removed`);
  for (const path of [slotPin(dir), stagePin(dir)]) letGo(path);
  removeTree(dir, bpffs);
  // The folders of a link that somebody else has unpinned.
  removeEmptyParents(furtherLinkPin(bpffs, dir), bpffs);
}

/**
 * Empties a slot that is about to go. The kernel does so with its last user, but one that somebody else has open would hold the program in
 * it, and that one's slot, and so on to the end of the chain. Companions of L3AF's first packages have: all of one kind open the same pin.
 */
function letGo(path: string): void {
  using slot = tryOpenSlot(path);
  if (slot === undefined) return;
  try {
    emptySlot(slot.number, `Cannot empty ${path}`);
  } catch {
    // Somebody has frozen it. What it holds is then reported as left over.
  }
}

type Kind = 'link' | 'prog' | 'map';
const WORDS: Readonly<Record<Kind, string>> = { link: 'Link', prog: 'Program', map: 'Map' };

interface Left {
  readonly kind: Kind;
  readonly id: number;
}

/** See `Datapath.proveGone`. All are waited for together, since the kernel lets go of them together. */
export async function proveGone({ programs, maps, links }: KernelIds): Promise<void> {
  let left: readonly Left[] = [
    ...links.map((id) => ({ kind: 'link' as const, id })),
    ...programs.map((id) => ({ kind: 'prog' as const, id })),
    ...maps.map((id) => ({ kind: 'map' as const, id })),
  ];
  const begun = performance.now();
  let isAsked = false;
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    left = left.filter(({ kind, id }) => exists(kind, id));
    if (left.length === 0) return;
    const waited = performance.now() - begun;
    if (waited > PATIENCE_MS) break;
    // Looking for holders goes through the whole host, so it is done once, and again for the message.
    if (waited > EXPLAINED_MS && !isAsked) {
      isAsked = true;
      const holders = holdersOf(left);
      if (left.some(({ kind, id }) => (holders.get(`${kind} ${id}`) ?? []).length > 0)) break;
    }
    await sleep(pause);
  }
  const holders = holdersOf(left);
  const words = left.map(({ kind, id }) => {
    const by = holders.get(`${kind} ${id}`) ?? [];
    return `${WORDS[kind]} ${id} is still in the kernel; ${by.length === 0 ? 'who holds it cannot be told' : `it is held by ${by.join(', ')}`}`;
  });
  throw new AgentError('LEFTOVER', words.join('; '));
}
