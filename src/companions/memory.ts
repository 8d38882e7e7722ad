import { type CompanionLaunch, type CompanionRef, companionKey, type ObservedCompanion } from '../domain/companion.js';
import type { ChainHook } from '../domain/hook.js';

export interface MemoryCompanionsOptions {
  /** Receives the directory of the handover slot for which a companion has to load a program. */
  readonly onLoading: (dir: string, hook: ChainHook) => void | Promise<void>;
}

/**
 * Companions without processes, for an agent without a kernel. Used together with {@link file://../datapath/memory.ts}.
 */
export class MemoryCompanions {
  readonly #running = new Map<string, ObservedCompanion>();
  readonly #options: MemoryCompanionsOptions;

  constructor(options: Partial<MemoryCompanionsOptions> = {}) {
    this.#options = { onLoading: () => undefined, ...options };
  }

  async observe(): Promise<readonly ObservedCompanion[]> {
    return [...this.#running.values()];
  }

  async check(_launch: CompanionLaunch): Promise<void> {}

  /** @param loading what the companion loads itself; reported to the in-memory datapath */
  async start(
    launch: CompanionLaunch,
    maps: readonly number[],
    restarts: number,
    loading?: { readonly dir: string },
  ): Promise<void> {
    if (loading !== undefined && launch.hook.direction !== '') await this.#options.onLoading(loading.dir, launch.hook);
    const { daemon, cmdStart } = launch.companion;
    const state = daemon && cmdStart !== '' ? 'running' : 'done';
    const ids = maps.toSorted((a, b) => a - b);
    const loaded = loading?.dir;
    this.#running.set(loaded ?? companionKey(launch), {
      launch,
      state,
      pid: undefined,
      maps: ids,
      restarts,
      ...(loaded !== undefined && { loaded }),
    });
  }

  async stop(companion: CompanionRef, loaded?: string): Promise<void> {
    this.#running.delete(loaded ?? companionKey(companion));
  }

  async update(_from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Promise<void> {
    const key = loaded ?? companionKey(to);
    const found = this.#running.get(key);
    if (found !== undefined) this.#running.set(key, { ...found, launch: to });
  }

  async status(companion: CompanionRef, loaded?: string): Promise<'running' | 'not running' | undefined> {
    const found = this.#running.get(loaded ?? companionKey(companion));
    return found && (found.state === 'ended' ? 'not running' : 'running');
  }

  async close(): Promise<void> {}
}
