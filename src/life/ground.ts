import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Config } from '../config.js';
import { AgentError } from '../errors.js';
import { lockBpffs, type StateDirLock, takeStateDir } from '../store/lock.js';

/**
 * The places that an agent has for itself alone: its state directory and, where it drives the kernel, its bpffs. Two agents in one of
 * them would undo each other's work for ever.
 */
export class Ground {
  readonly #stateDir: string;
  readonly #bpffs: string | undefined;
  readonly #locks: readonly StateDirLock[];
  #device: { readonly stateDir: string; readonly bpffs: string };

  private constructor(stateDir: string, bpffs: string | undefined, locks: readonly StateDirLock[]) {
    this.#stateDir = stateDir;
    this.#bpffs = bpffs;
    this.#locks = locks;
    this.#device = { stateDir: '', bpffs: '' };
  }

  /** @throws AgentError STATE_DIR_LOCKED, CONFIG_INVALID */
  static async take({ stateDir, bpffs }: Config, kind: 'libbpf' | 'memory'): Promise<Ground> {
    const driven = kind === 'libbpf' ? bpffs : undefined;
    const locks = [await takeStateDir(stateDir)];
    try {
      if (driven !== undefined) locks.push(await lockBpffs(driven));
      const ground = new Ground(stateDir, driven, locks);
      ground.#device = { stateDir: await placeOf(stateDir), bpffs: await deviceOf(driven) };
      return ground;
    } catch (error) {
      for (const lock of locks) await lock.release();
      throw error;
    }
  }

  /**
   * Makes sure that the places are still those that were taken. An agent whose state directory was taken from under it would write to
   * files without a name; one whose bpffs was unmounted has lost its chains and cannot pin any.
   *
   * @throws AgentError INTERNAL, for an agent that is to end: the next one makes them anew
   */
  async assertThere(): Promise<void> {
    if ((await placeOf(this.#stateDir)) !== this.#device.stateDir) {
      throw gone(`The state directory ${this.#stateDir} was removed or replaced under the agent`);
    }
    if ((await deviceOf(this.#bpffs)) !== this.#device.bpffs) {
      throw gone(`The bpffs at ${this.#bpffs} was unmounted or replaced under the agent`);
    }
  }

  async release(): Promise<void> {
    for (const lock of this.#locks) await lock.release();
  }
}

function gone(what: string): AgentError {
  return new AgentError('INTERNAL', `${what}, which ends; the next one makes it anew`);
}

async function placeOf(path: string): Promise<string> {
  const there = await stat(path, { bigint: true }).catch(() => undefined);
  return there === undefined ? '' : `${there.dev}:${there.ino}`;
}

/** A folder that somebody has removed is made again by the next load, as long as the file system is there. */
async function deviceOf(path: string | undefined): Promise<string> {
  if (path === undefined) return '';
  const there = (await stat(path).catch(() => undefined)) ?? (await stat(dirname(path)).catch(() => undefined));
  return String(there?.dev ?? '');
}
