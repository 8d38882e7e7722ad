import { type CompanionLaunch, type CompanionRef, companionKey, type ObservedCompanion } from '../domain/companion.js';

/** Companions that are only noted down: for an agent that imitates a kernel, beside {@link file://../datapath/memory.ts}. */
export class MemoryCompanions {
  readonly #running = new Map<string, ObservedCompanion>();

  async observe(): Promise<readonly ObservedCompanion[]> {
    return [...this.#running.values()];
  }

  async check(_launch: CompanionLaunch): Promise<void> {}

  async start(launch: CompanionLaunch, maps: readonly number[], restarts: number): Promise<void> {
    const { daemon, cmdStart } = launch.companion;
    const state = daemon && cmdStart !== '' ? 'running' : 'done';
    const ids = maps.toSorted((a, b) => a - b);
    this.#running.set(companionKey(launch), { launch, state, pid: undefined, maps: ids, restarts });
  }

  async stop(companion: CompanionRef): Promise<void> {
    this.#running.delete(companionKey(companion));
  }

  async update(_from: CompanionLaunch, to: CompanionLaunch): Promise<void> {
    const found = this.#running.get(companionKey(to));
    if (found !== undefined) this.#running.set(companionKey(to), { ...found, launch: to });
  }

  async status(companion: CompanionRef): Promise<'running' | 'not running' | undefined> {
    const found = this.#running.get(companionKey(companion));
    return found && (found.state === 'ended' ? 'not running' : 'running');
  }

  async close(): Promise<void> {}
}
