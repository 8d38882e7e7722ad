import { constants } from 'node:fs';
import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../errors.js';

/** Threads and processes that one companion may have at a time: what a fork bomb is stopped at. */
const MAX_TASKS = 512;
/** A group that was emptied is busy for a moment still. */
const REMOVE_PATIENCE_MS = 2_000;
const POLL_MS = 20;

/**
 * Where the agent may make control groups of version 2 (the kernel's Documentation/admin-guide/cgroup-v2.rst). A group holds all that a
 * companion starts, also what leaves its session, and ends it at a stroke. Limits need their controllers as well, which a host may still
 * have in version 1.
 *
 * The groups lie at the top and not below the agent's own: companions outlive the agent, and a service manager could not put the agent's
 * successor into a group that has handed its controllers down ("no internal processes").
 */
export class CgroupTree {
  readonly #base: string;
  readonly #controllers: ReadonlySet<string>;

  private constructor(base: string, controllers: ReadonlySet<string>) {
    this.#base = base;
    this.#controllers = controllers;
  }

  /** Finds out by trying. @returns undefined where there is none, or none for us */
  static async find(): Promise<CgroupTree | undefined> {
    try {
      const mount = await mountPoint();
      const base = join(mount, 'l3af-companions');
      await mkdir(base, { recursive: true });
      await access(join(base, 'cgroup.procs'), constants.W_OK);
      await handDown(mount);
      await handDown(base);
      return new CgroupTree(base, new Set(await wordsIn(join(base, 'cgroup.subtree_control'))));
    } catch {
      return undefined;
    }
  }

  get limitsMemory(): boolean {
    return this.#controllers.has('memory');
  }

  /** Folder of the group of that name, whether it is there or not. */
  path(name: string): string {
    return join(this.#base, name);
  }

  /** Leaves nothing behind if no companion is left. */
  async close(): Promise<void> {
    await rmdir(this.#base).catch(() => undefined);
  }

  /**
   * Makes a group, or takes the one that is there.
   *
   * @param memory in bytes, 0 for no limit
   * @throws AgentError COMPANION_FAILED
   */
  async make(name: string, memory: number): Promise<void> {
    const group = this.path(name);
    try {
      await mkdir(group, { recursive: true });
      // Another agent may have taken the groups away when its last companion went.
      await handDown(this.#base);
      if (this.#controllers.has('pids')) await writeFile(join(group, 'pids.max'), String(MAX_TASKS));
      if (this.limitsMemory && memory > 0) await limitMemory(group, memory);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new AgentError(
        'COMPANION_FAILED',
        `No control group can be made for the companion at ${group}. The agent has to be able to write there, and cgroup.max.descendants of the groups above has to allow one more`,
        { cause, detail: reason },
      );
    }
  }
}

async function limitMemory(group: string, memory: number): Promise<void> {
  await writeFile(join(group, 'memory.max'), String(memory));
  // A companion that has lost a part is to be noticed.
  await writeFile(join(group, 'memory.oom.group'), '1');
  // Not every kernel counts swap.
  await writeFile(join(group, 'memory.swap.max'), '0').catch(() => undefined);
}

/** Process ids in a group and in those that were made below it; none for one that is gone, or for '', which is none. */
export async function membersOf(group: string): Promise<readonly number[]> {
  if (group === '') return [];
  const words = await wordsIn(join(group, 'cgroup.procs')).catch(() => []);
  const below = await Promise.all((await groupsIn(group)).map(membersOf));
  return [...words.map(Number), ...below.flat()];
}

/** Kills everything in a group at once, so that nothing can fork away from it. Kernels before 5.14 cannot, and then nothing happens. */
export async function killGroup(group: string): Promise<void> {
  await writeFile(join(group, 'cgroup.kill'), '1').catch(() => undefined);
}

/**
 * Removes an empty group, with those that a companion has made below it; '' is none.
 *
 * @throws AgentError LEFTOVER
 */
export async function removeGroup(group: string): Promise<void> {
  if (group === '') return;
  for (const end = performance.now() + REMOVE_PATIENCE_MS; ; await sleep(POLL_MS)) {
    for (const below of await groupsIn(group)) await removeGroup(below);
    const failure = await rmdir(group).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    );
    if (failure === undefined || failure.code === 'ENOENT') return;
    if (failure.code === 'EBUSY' && performance.now() < end) continue;
    throw new AgentError(
      'LEFTOVER',
      `The control group ${group} cannot be removed. Remove it with rmdir when nothing is in its cgroup.procs any more`,
      { cause: failure, detail: failure.message },
    );
  }
}

/** Paths of the groups directly below one. */
async function groupsIn(group: string): Promise<string[]> {
  const entries = await readdir(group, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(group, name));
}

/** Where the file system is mounted. In a container that is the group of the container. */
async function mountPoint(): Promise<string> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  const mount = mounts.find(([, , type]) => type === 'cgroup2')?.[1];
  if (mount === undefined) throw new Error('no cgroup file system of version 2 is mounted');
  return mount;
}

/** Lets the groups below have the controllers. Where it cannot be, limits are set by other means. */
async function handDown(group: string): Promise<void> {
  const available = await wordsIn(join(group, 'cgroup.controllers'));
  for (const controller of ['memory', 'pids'].filter((name) => available.includes(name))) {
    await writeFile(join(group, 'cgroup.subtree_control'), `+${controller}`).catch(() => undefined);
  }
}

async function wordsIn(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8')).split(/\s+/).filter((word) => word !== '');
}
