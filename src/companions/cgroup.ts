import { constants } from 'node:fs';
import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError, messageOf } from '../errors.js';
import { retry } from '../retry.js';

/** How many threads and processes one companion may have at a time. This limit stops a fork bomb. */
const MAX_TASKS = 512;
/** A group stays busy for a moment after its last process has ended. */
const REMOVE_PATIENCE_MS = 2_000;
const POLL = { firstMs: 20, capMs: 20 };

/**
 * The place where the agent makes control groups of version 2 (the kernel's Documentation/admin-guide/cgroup-v2.rst). A
 * group holds every process that a companion starts, even one that leaves its session, and all can be killed at once.
 * Limits also need controllers, which a host may still use in version 1.
 *
 * The groups are at the top of the hierarchy, not below the agent's own group. Companions outlive the agent, and a
 * service manager cannot start the next agent in a group that has enabled controllers for its children ("no internal
 * processes").
 */
export class CgroupTree {
  readonly #base: string;
  readonly #controllers: ReadonlySet<string>;

  private constructor(base: string, controllers: ReadonlySet<string>) {
    this.#base = base;
    this.#controllers = controllers;
  }

  /** Finds the place by trying to make a group. @returns undefined if there is none, or the agent may not use it */
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

  /** Folder of the group with this name, whether or not it exists. */
  path(name: string): string {
    return join(this.#base, name);
  }

  /** Removes the base group, unless companions are left. */
  async close(): Promise<void> {
    await rmdir(this.#base).catch(() => undefined);
  }

  /**
   * Makes a group, or uses the existing one.
   *
   * @param memory in bytes, 0 for no limit
   * @throws AgentError COMPANION_FAILED
   */
  async make(name: string, memory: number): Promise<void> {
    const group = this.path(name);
    try {
      await mkdir(group, { recursive: true });
      // Another agent may have removed the base group with its last companion.
      await handDown(this.#base);
      if (this.#controllers.has('pids')) await writeFile(join(group, 'pids.max'), String(MAX_TASKS));
      if (this.limitsMemory && memory > 0) await limitMemory(group, memory);
    } catch (cause) {
      const reason = messageOf(cause);
      throw new AgentError(
        'COMPANION_FAILED',
        `No control group can be made for the companion at ${group}. The agent needs write access there, and cgroup.max.descendants of the parent groups must allow one more group`,
        { cause, detail: reason },
      );
    }
  }
}

async function limitMemory(group: string, memory: number): Promise<void> {
  await writeFile(join(group, 'memory.max'), String(memory));
  // If memory runs out, kill the whole companion: the watch would not notice that only a part of it is gone.
  await writeFile(join(group, 'memory.oom.group'), '1');
  // Not every kernel has this limit.
  await writeFile(join(group, 'memory.swap.max'), '0').catch(() => undefined);
}

/** Process ids in a group and in the groups below it. Empty for '' (no group) and for a group that no longer exists. */
export async function membersOf(group: string): Promise<readonly number[]> {
  if (group === '') return [];
  const words = await wordsIn(join(group, 'cgroup.procs')).catch(() => []);
  const below = await Promise.all((await groupsIn(group)).map(membersOf));
  return [...words.map(Number), ...below.flat()];
}

/** Kills all processes in a group at once, so that none can escape by fork(2). Does nothing on kernels before 5.14. */
export async function killGroup(group: string): Promise<void> {
  await writeFile(join(group, 'cgroup.kill'), '1').catch(() => undefined);
}

/**
 * Removes an empty group and the groups that the companion has made below it. Does nothing for '' (no group).
 *
 * @throws AgentError LEFTOVER
 */
export async function removeGroup(group: string): Promise<void> {
  if (group === '') return;
  const end = performance.now() + REMOVE_PATIENCE_MS;
  const remove = async () => {
    for (const below of await groupsIn(group)) await removeGroup(below);
    await rmdir(group);
  };
  const isPassing = (error: unknown) => errnoOf(error) === 'EBUSY' && performance.now() < end;
  try {
    await retry(remove, { backoff: POLL, isPassing });
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    if (errnoOf(cause) === 'ENOENT') return;
    throw new AgentError(
      'LEFTOVER',
      `The control group ${group} cannot be removed. Remove it with rmdir when its cgroup.procs is empty`,
      { cause, detail: messageOf(cause) },
    );
  }
}

function errnoOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Paths of the groups directly below one. */
async function groupsIn(group: string): Promise<string[]> {
  const entries = await readdir(group, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(group, name));
}

/** The mount point of the cgroup file system. In a container this is the container's group. */
async function mountPoint(): Promise<string> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  const mount = mounts.find(([, , type]) => type === 'cgroup2')?.[1];
  if (mount === undefined) throw new Error('no cgroup file system of version 2 is mounted');
  return mount;
}

/** Enables the controllers for the groups below. If that fails, limits are set by other means. */
async function handDown(group: string): Promise<void> {
  const available = await wordsIn(join(group, 'cgroup.controllers'));
  for (const controller of ['memory', 'pids'].filter((name) => available.includes(name))) {
    await writeFile(join(group, 'cgroup.subtree_control'), `+${controller}`).catch(() => undefined);
  }
}

async function wordsIn(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8')).split(/\s+/).filter((word) => word !== '');
}
