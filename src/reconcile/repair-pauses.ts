import { pauseAfter } from '../retry.js';

const BACKOFF = { firstMs: 1_000, capMs: 5 * 60_000 };

/** Pauses that grow after each failed repair, so that commands get their turn. */
export class RepairPauses {
  readonly #now: () => number;
  /** How many repairs in a row have failed. */
  #failures = 0;
  #until = Number.NEGATIVE_INFINITY;

  /** @param now monotonic clock, in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get resting(): boolean {
    return this.#now() < this.#until;
  }

  failed(): void {
    this.#failures += 1;
    this.#until = this.#now() + pauseAfter(this.#failures, BACKOFF);
  }

  /** Ends the pauses: the next repair may run at once. */
  over(): void {
    this.#failures = 0;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
