import PQueue from 'p-queue';
import { AgentError } from '../errors.js';

/**
 * The right to use the datapath, and what must not change meanwhile: companions, and the packages in use. Code that
 * does so takes the turn as a parameter, so a call outside the lane does not compile. A turn belongs to one task of the
 * lane and ends with it.
 */
class Turn {
  readonly #over: AbortSignal;

  /** @param over aborted when the task has ended */
  constructor(over: AbortSignal) {
    this.#over = over;
  }

  /** @throws AgentError INTERNAL if the turn is over: another task may be in the middle of its steps */
  assertHeld(): void {
    if (this.#over.aborted) {
      throw new AgentError('INTERNAL', 'A task used the datapath after its turn in the lane had ended');
    }
  }
}

// Only the type is exported: only the lane makes turns.
export type { Turn };

/**
 * The only way to the datapath. Tasks run one at a time, in the order in which they were added. Commands, reconciles
 * and snapshots all use the lane, so none of them sees a half-done state of another.
 */
export class Lane {
  readonly #queue = new PQueue({ concurrency: 1 });

  /** Waiting tasks, without the running one. */
  get depth(): number {
    return this.#queue.size;
  }

  /** @param task gets a turn, which ends with the task */
  run<T>(task: (turn: Turn) => Promise<T>): Promise<T> {
    return this.#queue.add(async () => {
      const over = new AbortController();
      try {
        return await task(new Turn(over.signal));
      } finally {
        over.abort();
      }
    }) as Promise<T>;
  }

  /** Resolves when all added tasks have run. */
  idle(): Promise<void> {
    return this.#queue.onIdle();
  }
}
