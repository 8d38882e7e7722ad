import type { Unsubscribe } from './connection.js';

/** What an agent does with NATS: it takes commands from a stream, stores answers and state, and publishes metrics. */
export type BusTask = 'consuming' | 'storing' | 'publishing';

/** Something that NATS does not let the agent do at the moment. */
export interface Trouble {
  readonly task: BusTask;
  /** Why, in words. */
  readonly message: string;
}

/**
 * What does not work at the moment although there is a connection, and why. The parts of the bus report each failure
 * and each success of a task that they repeat; health, status and metrics show it.
 */
export class Troubles {
  readonly #known = new Map<string, Trouble>();
  readonly #listeners = new Set<() => void>();

  /**
   * @param what the stream, bucket or message that it is about
   * @returns whether this is news
   */
  begin(task: BusTask, what: string, message: string): boolean {
    const key = `${task} ${what}`;
    if (this.#known.get(key)?.message === message) return false;
    this.#known.set(key, { task, message });
    this.#tell();
    return true;
  }

  end(task: BusTask, what: string): void {
    if (this.#known.delete(`${task} ${what}`)) this.#tell();
  }

  /** The oldest first, each message once. */
  list(): readonly Trouble[] {
    const byText = new Map([...this.#known.values()].map((trouble) => [`${trouble.task} ${trouble.message}`, trouble]));
    return [...byText.values()];
  }

  /** Calls back after each change. */
  onChange(callback: () => void): Unsubscribe {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  #tell(): void {
    for (const callback of [...this.#listeners]) callback();
  }
}
