import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, type Stage } from '../e2e/support/stage.js';
import { existing, type Kind } from '../support/kernel-ids.js';
import { pinsBelow } from '../support/pins.js';

/*
 * The resources that an agent uses: descriptors, heap, its journal, and kernel objects.
 */

const MIB = 2 ** 20;

/**
 * How much the used heap may grow. Only the journal's records grow with the number of commands: up to 4,096 records
 * with answers of up to 4 MiB in total, which take twice that in memory. The rest is compiled code and buffers.
 */
const HEAP_MARGIN = 24 * MIB;

/** The journal is compacted when it has grown to four times its content, and to at least 1 MiB. */
const LARGEST_JOURNAL = 4 * 4 * MIB;

export interface Usage {
  /** How many descriptors of each kind are open: `{ socket: 4, 'anon_inode:[eventpoll]': 1 }`. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** Used bytes of the heap. */
  readonly heap: number;
}

/** Environment of an agent whose usage is measured. */
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
    'the agent should report its heap',
  );
  return { descriptors: descriptorsOf(agent.pid!), heap: Number(lines.at(-1)?.used) };
}

const SETTLED_MS = 1_000;

/** The usage of an idle agent. Waits, since at its start the agent still checks the kernel's features. */
export async function usageAtRest(stage: Stage): Promise<Usage> {
  for (let usage = await usageOf(stage); ; ) {
    await sleep(SETTLED_MS);
    const next = await usageOf(stage);
    if (JSON.stringify(next.descriptors) === JSON.stringify(usage.descriptors)) return next;
    usage = next;
  }
}

/**
 * Asserts that nothing has grown since `start`, on a host that runs nothing.
 *
 * @param ids of all kernel objects that ever existed
 */
export async function assertNotGrown(stage: Stage, start: Usage, ids: Readonly<Record<Kind, ReadonlySet<number>>>) {
  assert.deepEqual(pinsBelow(stage.bpffs), [], 'something is pinned');
  for (const kind of ['prog', 'map', 'link'] as const) {
    // The kernel frees objects later, in work queues.
    const left = async () => existing(kind, ids[kind]);
    await eventually(left, ({ length }) => length === 0, `every ${kind} should be gone from the kernel`);
  }
  // Reading an interface or a file opens a descriptor for a moment.
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

/** The kind of a descriptor: `socket` for `socket:[123]`; undefined if it is already closed. */
function kindOf(path: string): string | undefined {
  try {
    return readlinkSync(path).replace(/:\[\d+\]$/, '');
  } catch {
    return undefined;
  }
}
