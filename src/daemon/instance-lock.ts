import { type BigIntStats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config.js';
import { AgentError } from '../errors.js';
import { lockBpffs, type StateDirLock, takeStateDir } from '../store/lock.js';

/**
 * The places that only one agent may use: its state directory and, if it drives the kernel, its bpffs. Two agents in
 * one of them would undo each other's work for ever.
 */
export class InstanceLock {
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
  static async take({ stateDir, bpffs }: Config, kind: 'libbpf' | 'memory'): Promise<InstanceLock> {
    const driven = kind === 'libbpf' ? bpffs : undefined;
    const locks = [await takeStateDir(stateDir)];
    try {
      if (driven !== undefined) locks.push(await lockBpffs(driven));
      const lock = new InstanceLock(stateDir, driven, locks);
      lock.#device = { stateDir: placeOf(stateDir), bpffs: deviceOf(driven) };
      return lock;
    } catch (error) {
      for (const lock of locks) await lock.release();
      throw error;
    }
  }

  /**
   * Checks that the places are still those that were locked. An agent whose state directory was removed would write to
   * deleted files. An agent whose bpffs was unmounted has lost its chains and cannot pin new ones.
   *
   * @throws AgentError STATE_LOST; the agent must end, and the next one creates them again
   */
  assertThere(): void {
    if (placeOf(this.#stateDir) !== this.#device.stateDir) {
      throw gone(`The state directory ${this.#stateDir} was removed or replaced under the agent`);
    }
    if (deviceOf(this.#bpffs) !== this.#device.bpffs) {
      throw gone(`The bpffs at ${this.#bpffs} was unmounted or replaced under the agent`);
    }
  }

  async release(): Promise<void> {
    for (const lock of this.#locks) await lock.release();
  }
}

function gone(what: string): AgentError {
  return new AgentError('STATE_LOST', `${what}. The agent ends; the next one creates it again`);
}

function placeOf(path: string): string {
  const there = lookAt(path);
  return there === undefined ? '' : `${there.dev}:${there.ino}`;
}

/** A removed folder is created again by the next load while the file system exists. */
function deviceOf(path: string | undefined): string {
  if (path === undefined) return '';
  return String((lookAt(path) ?? lookAt(dirname(path)))?.dev ?? '');
}

/** Each command asks, so at once and not on another thread. */
function lookAt(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}
