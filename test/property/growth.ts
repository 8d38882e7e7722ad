import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, type Stage } from '../e2e/support-stage.js';
import { existing, type Kind } from '../support/kernel-ids.js';
import { pinsBelow } from '../support/pins.js';

/*
 * What an agent uses up: descriptors, heap, its journal, and what it has in the kernel.
 */

const MIB = 2 ** 20;

/**
 * How much more heap may be in use at the end. What grows with the number of commands is the journal's record of them, up to 4,096 with
 * answers of up to 4 MiB altogether, twice that in memory; the rest is compiled code and buffers.
 */
const HEAP_MARGIN = 24 * MIB;

/** The journal is written anew when it has grown to four times what it holds, and to 1 MiB at least. */
const LARGEST_JOURNAL = 4 * 4 * MIB;

export interface Usage {
  /** How many descriptors of each kind are open: `{ socket: 4, 'anon_inode:[eventpoll]': 1 }`. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** Bytes of the heap that are in use. */
  readonly heap: number;
}

/** For the environment of an agent whose usage will be asked for. */
export const WATCHED = {
  NODE_OPTIONS: `--import=${new URL('../support/heap-watch.js', import.meta.url)}`,
} as const;

async function usageOf(stage: Stage): Promise<Usage> {
  const { agent } = stage;
  const told = () => agent.logs().filter(({ msg }) => msg === 'heap');
  const before = told().length;
  process.kill(agent.pid!, 'SIGUSR2');
  const lines = await eventually(
    async () => told(),
    ({ length }) => length > before,
    'the agent should tell of its heap',
  );
  return { descriptors: descriptorsOf(agent.pid!), heap: Number(lines.at(-1)?.used) };
}

const SETTLED_MS = 1_000;

/** What an agent uses when it has come to rest: at its start it still finds out what the kernel can do. */
export async function usageAtRest(stage: Stage): Promise<Usage> {
  for (let usage = await usageOf(stage); ; ) {
    await sleep(SETTLED_MS);
    const next = await usageOf(stage);
    if (JSON.stringify(next.descriptors) === JSON.stringify(usage.descriptors)) return next;
    usage = next;
  }
}

/** Nothing has grown since `start`, on a host that runs nothing now. @param ids of everything that was ever in the kernel */
export async function assertNotGrown(stage: Stage, start: Usage, ids: Readonly<Record<Kind, ReadonlySet<number>>>) {
  assert.deepEqual(pinsBelow(stage.bpffs), [], 'something is pinned');
  for (const kind of ['prog', 'map', 'link'] as const) {
    // The kernel frees by work queues.
    const left = async () => existing(kind, ids[kind]);
    await eventually(left, ({ length }) => length === 0, `every ${kind} should be gone from the kernel`);
  }
  // A look at an interface or at a file opens one for a moment.
  const noMore = ({ descriptors }: Usage) =>
    Object.entries(descriptors).every(([kind, count]) => count <= (start.descriptors[kind] ?? 0));
  const message = `the agent should have no more open than at the start, ${JSON.stringify(start.descriptors)}`;
  const { heap } = await eventually(() => usageOf(stage), noMore, message);
  assert.ok(heap <= start.heap + HEAP_MARGIN, `the heap has grown from ${start.heap} to ${heap} bytes`);
  const journal = statSync(join(stage.stateDir, 'journal')).size;
  assert.ok(journal <= LARGEST_JOURNAL, `the journal has grown to ${journal} bytes`);
  return { heap, journal };
}

function descriptorsOf(pid: number): Record<string, number> {
  const dir = `/proc/${pid}/fd`;
  const counts: Record<string, number> = {};
  for (const fd of readdirSync(dir).toSorted()) {
    const kind = kindOf(join(dir, fd));
    if (kind !== undefined) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(counts).toSorted());
}

/** `socket:[123]` is a socket; undefined for a descriptor that was closed meanwhile. */
function kindOf(path: string): string | undefined {
  try {
    return readlinkSync(path).replace(/:\[\d+\]$/, '');
  } catch {
    return undefined;
  }
}
