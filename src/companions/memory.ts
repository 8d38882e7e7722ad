import { type CompanionLaunch, type CompanionRef, companionKey, type ObservedCompanion } from '../domain/companion.js';
import type { Hook } from '../domain/hook.js';

export interface MemoryCompanionsOptions {
  /** Told which stage a companion has to put a program on. */
  readonly onLoading: (dir: string, hook: Hook) => void | Promise<void>;
}

/** Companions that are only noted down: for an agent that imitates a kernel, beside {@link file://../datapath/memory.ts}. */
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

  /** @param loading what it is to load itself, of which the datapath beside it takes note */
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
