import { furtherLinkPin, handoverPin, parseLoadName, parseProbesName, slotPin } from '../../../domain/pins.js';
import { AgentError } from '../../../errors.js';
import { pause, pauseAfter } from '../../../retry.js';
import type { KernelIds } from '../../datapath.js';
import type { Kind } from '../abi/fd.js';
import { exists } from '../abi/ids.js';
import { type Holders, holdersOf, seesAllProcesses } from '../diagnostics/holders.js';
import { emptySlotAside, tryOpenSlot } from '../maps/slot.js';
import { removeEmptyParents, removeTree } from '../pins/pins.js';

/**
 * How long to wait. The kernel frees links, slots and maps in work queues and after RCU grace periods, usually within
 * tens of milliseconds. If a holder is found after EXPLAINED_MS, waiting ends then.
 */
const EXPLAINED_MS = 1000;
const PATIENCE_MS = 5000;
/** Between two checks. A command waits for the last one, so they are close together while the kernel is usually done. */
const SOON = { checks: 60, pauseMs: 1 };
const LATER = { firstMs: 4, capMs: 50 };

/** See `Datapath.discard`. */
export async function discard(dir: string, bpffs: string): Promise<void> {
  const name = dir.slice(dir.lastIndexOf('/') + 1);
  const isOurs = dir.startsWith(`${bpffs}/progs/`) && (parseLoadName(name) ?? parseProbesName(name)) !== undefined;
  if (!isOurs)
    throw new AgentError('INTERNAL', `${dir} is not the directory of a loaded program, so it is not removed`);
  for (const path of [slotPin(dir), handoverPin(dir)]) await letGo(path);
  removeTree(dir, bpffs);
  // Directories of a link whose pin was removed by others.
  removeEmptyParents(furtherLinkPin(bpffs, dir), bpffs);
}

/**
 * Empties a slot that is about to be removed. The kernel does so when the last user is gone. But a slot that another
 * process has open would hold its program, that program's slot, and so on to the end of the chain. Companions of L3AF's
 * first packages do that: all of one kind open the same pin.
 */
async function letGo(path: string): Promise<void> {
  using slot = tryOpenSlot(path);
  if (slot === undefined) return;
  try {
    await emptySlotAside(slot.number, `Cannot empty ${path}`);
  } catch {
    // The map was frozen. The program that it holds is then reported as left over.
  }
}

const WORDS: Readonly<Record<Kind, string>> = { link: 'Link', prog: 'Program', map: 'Map' };

interface Left {
  readonly kind: Kind;
  readonly id: number;
}

/**
 * See `Datapath.proveGone`. Waits for all together, since the kernel frees them together.
 *
 * A map without any holder (process, pin or program) counts as gone, provided that all processes are visible. The
 * kernel itself keeps a PROG_ARRAY forever if another process opens it by its id just when its last user disappears, as
 * monitoring tools can (see ids.ts).
 */
export async function proveGone({ programs, maps, links }: KernelIds): Promise<void> {
  let left: readonly Left[] = [
    ...links.map((id) => ({ kind: 'link' as const, id })),
    ...programs.map((id) => ({ kind: 'prog' as const, id })),
    ...maps.map((id) => ({ kind: 'map' as const, id })),
  ];
  const begun = performance.now();
  let isAsked = false;
  for (let looks = 1; ; looks += 1) {
    left = left.filter(({ kind, id }) => exists(kind, id));
    if (left.length === 0) return;
    const waited = performance.now() - begun;
    if (waited > PATIENCE_MS) break;
    // The search for holders covers the whole host, so it runs once here, and once more for the message.
    if (waited > EXPLAINED_MS && !isAsked) {
      isAsked = true;
      const holders = holdersOf(left);
      if (seesAllProcesses()) left = left.filter((object) => object.kind !== 'map' || isHeld(object, holders));
      if (left.some((object) => isHeld(object, holders))) break;
    }
    await pause(looks <= SOON.checks ? SOON.pauseMs : pauseAfter(looks - SOON.checks, LATER));
  }
  const holders = holdersOf(left);
  left = left.filter(({ kind, id }) => exists(kind, id));
  const words = left.map(({ kind, id }) => {
    const by = holders.get(`${kind} ${id}`) ?? [];
    return `${WORDS[kind]} ${id} is still in the kernel; ${by.length === 0 ? 'its holder is unknown' : `it is held by ${by.join(', ')}`}`;
  });
  if (words.length > 0) throw new AgentError('LEFTOVER', words.join('; '));
}

function isHeld({ kind, id }: Left, holders: Holders): boolean {
  return (holders.get(`${kind} ${id}`) ?? []).length > 0;
}
