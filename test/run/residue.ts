import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryOpenId } from '../../src/datapath/libbpf/abi/fd.js';
import { programInfo } from '../../src/datapath/libbpf/abi/info.js';
import { type Holders, holdersOf } from '../../src/datapath/libbpf/diagnostics/holders.js';
import { entriesOf, processIds, textAt } from '../../src/datapath/libbpf/diagnostics/procfs.js';
import { idsInKernel, isOurs, type Kind } from '../support/kernel-ids.js';
import { PROJECT_ROOT } from '../support/project.js';
import { isOfThisRun, takeNoted } from '../support/this-run.js';
import { runSync } from '../support/tool.js';

/*
 * Finds what a test run has left on the machine. Compares identities, not counts, since other processes may change the
 * machine at the same time.
 */

const KINDS = ['prog', 'map', 'link'] as const;
const WORDS: Readonly<Record<Kind, string>> = { prog: 'program', map: 'map', link: 'link' };

const SOURCES = ['native/bpf', 'test/native'].map((folder) => join(PROJECT_ROOT, folder));

/**
 * How long to wait for leftovers to disappear: the kernel frees unused objects later, and killed processes take a
 * moment.
 */
const PATIENCE_MS = 15_000;
/** How long to wait for objects without a holder, most of which disappear soon. */
const NOTES_PATIENCE_MS = 3_000;
const PAUSE_MS = 250;

/** The state of the machine at one time. */
export interface Machine {
  readonly ids: Readonly<Record<Kind, ReadonlySet<number>>>;
  /** Interfaces of this network namespace, such as `7 eth0`. */
  readonly interfaces: ReadonlySet<string>;
  /** Such as `eth0 clsact ffff:`. */
  readonly qdiscs: ReadonlySet<string>;
  /** Names of network namespaces. */
  readonly namespaces: ReadonlySet<string>;
  /** Such as `bpf at /sys/fs/bpf`. */
  readonly mounts: ReadonlySet<string>;
  /** The count of each kind, on one line. */
  readonly summary: string;
}

export function readMachine(): Machine {
  const ids = Object.fromEntries(KINDS.map((kind) => [kind, new Set(idsInKernel(kind))])) as Record<Kind, Set<number>>;
  const named = {
    interfaces: new Set(
      entriesOf('/sys/class/net').map((name) => `${textAt(`/sys/class/net/${name}/ifindex`).trim()} ${name}`),
    ),
    qdiscs: new Set(qdiscs()),
    namespaces: new Set(entriesOf('/run/netns')),
    mounts: new Set(mounts()),
  };
  const counts = Object.entries<ReadonlySet<unknown>>({ ...ids, ...named });
  return { ids, ...named, summary: counts.map(([what, all]) => `${what} ${all.size}`).join(', ') };
}

export interface Residue {
  /** What should be gone, as text. */
  readonly left: readonly string[];
  /** What is worth reporting, but is not our fault. */
  readonly notes: readonly string[];
}

/** @param folder of the run; identifies the run's processes and pins */
export async function residueSince(before: Machine, folder: string): Promise<Residue> {
  const made = takeNoted(folder);
  const begun = performance.now();
  for (;;) {
    const residue = look(before, folder, made);
    const patience = residue.left.length > 0 ? PATIENCE_MS : residue.notes.length > 0 ? NOTES_PATIENCE_MS : 0;
    if (performance.now() - begun >= patience) return residue;
    await sleep(PAUSE_MS);
  }
}

/**
 * Removes the folder of an interrupted run after its tests have ended. The tests remove everything except files and
 * mounts.
 */
export async function takeDown(folder: string): Promise<void> {
  const isLeft = () => processIds().some((pid) => Number(pid) !== process.pid && isOfThisRun(Number(pid), folder));
  for (const begun = performance.now(); isLeft() && performance.now() - begun < PATIENCE_MS; ) await sleep(PAUSE_MS);
  const mounted = mounts().map((mount) => mount.slice(mount.indexOf('/')));
  // Nested mounts come first. They may already be gone.
  for (const path of mounted.filter((each) => each.startsWith(`${folder}/`)).toReversed()) {
    try {
      runSync('umount', ['--lazy', path]);
    } catch {
      // The folder stays then, and removing it fails below.
    }
  }
  rmSync(folder, { recursive: true, force: true });
}

function look(before: Machine, folder: string, made: ReadonlySet<string>): Residue {
  const now = readMachine();
  const objects = KINDS.flatMap((kind) =>
    [...now.ids[kind]].filter((id) => !before.ids[kind].has(id)).map((id) => ({ kind, id })),
  );
  const holders = withOlder(before, objects.length === 0 ? new Map() : holdersOf(objects));
  const still = readMachine().ids;
  const left: string[] = [];
  const notes: string[] = [];
  let others = 0;
  for (const { kind, id } of objects) {
    if (!still[kind].has(id)) continue;
    const by = holders.get(`${kind} ${id}`) ?? [];
    const what = `${WORDS[kind]} ${id}${kind === 'prog' ? ` (${nameOf(id)})` : ''}`;
    if (by.length > 0) {
      const told = `${what}, held by ${by.join(', ')}`;
      if (isOurs(kind, id, holders, folder)) left.push(told);
      else others += 1;
    } else if (kind === 'prog' && isNameOfOurs(nameOf(id))) left.push(`${what}, with no holder that can be found`);
    else if (kind === 'map') notes.push(`${what} is still in the kernel, but no descriptor, pin or program holds it`);
    else notes.push(`${what} has no holder that can be found`);
  }
  if (others > 0) notes.push(`${others} programs, maps and links of other processes were added during the run`);
  // Another test run makes interfaces and namespaces too, and records its own.
  const isOfOurs = {
    interfaces: (what: string) => made.has(what.split(' ')[1]!),
    qdiscs: (what: string) => made.has(what.split(' ')[0]!),
    namespaces: (what: string) => made.has(what),
    mounts: (what: string) => what.includes(folder) || what === 'bpf at /sys/fs/bpf',
  } as const;
  for (const [what, isOne] of Object.entries(isOfOurs) as [keyof typeof isOfOurs, (name: string) => boolean][]) {
    const more = [...now[what]].filter((name) => !before[what].has(name) && isOne(name));
    left.push(...more.map((name) => `${what}: ${name}`));
  }
  const processes = processIds().filter((pid) => Number(pid) !== process.pid);
  for (const pid of processes.filter((name) => isOfThisRun(Number(name), folder))) {
    left.push(`process ${pid} (${textAt(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()})`);
  }
  return { left, notes };
}

/** Objects from before the run do not belong to the run. */
function withOlder(before: Machine, holders: Holders): Holders {
  const older = KINDS.flatMap((kind) =>
    [...before.ids[kind]].map((id) => [`${kind} ${id}`, ['process 1 (init)']] as const),
  );
  return new Map([...older, ...holders]);
}

function nameOf(programId: number): string {
  using program = tryOpenId('prog', programId);
  return program === undefined ? '' : programInfo(program.number).name;
}

/** Whether a source of this repository has a program with this name. The kernel truncates names. */
function isNameOfOurs(name: string): boolean {
  return (
    name !== '' && SOURCES.some((folder) => entriesOf(folder).some((file) => textAt(join(folder, file)).includes(name)))
  );
}

function qdiscs(): string[] {
  const all = JSON.parse(runSync('tc', ['-json', 'qdisc', 'show'])) as {
    readonly dev: string;
    readonly kind: string;
    readonly handle: string;
  }[];
  return all.map(({ dev, kind, handle }) => `${dev} ${kind} ${handle}`);
}

/** proc(5), /proc/pid/mountinfo: the fifth field is the mount point, and the first after ` - ` is the type. */
function mounts(): string[] {
  return textAt('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => `${line.split(' - ')[1]?.split(' ')[0]} at ${line.split(' ')[4]}`);
}
