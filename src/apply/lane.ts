import PQueue from 'p-queue';

/**
 * The one way to the datapath: tasks run one at a time, in the order in which they came. Commands, reconciles and snapshots all
 * pass here, so that none of them ever sees another's half-way state.
 */
export class Lane {
  readonly #queue = new PQueue({ concurrency: 1 });

  /** Tasks that wait, without the one that runs. */
  get depth(): number {
    return this.#queue.size;
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.add(task) as Promise<T>;
  }

  /** Resolves when everything that was added has run. */
  idle(): Promise<void> {
    return this.#queue.onIdle();
  }
}
