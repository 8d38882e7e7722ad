const FIRST_MS = 1_000;
const LONGEST_MS = 5 * 60_000;

/** After a repair that failed, the next ones rest for longer and longer, so that commands get their turn. */
export class RepairPauses {
  readonly #now: () => number;
  /** Milliseconds after the last repair; 0 unless that failed. */
  #pause = 0;
  #until = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a clock that does not go back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get resting(): boolean {
    return this.#now() < this.#until;
  }

  failed(): void {
    this.#pause = Math.min(2 * this.#pause + FIRST_MS, LONGEST_MS);
    this.#until = this.#now() + this.#pause;
  }

  /** The next repair need not wait. */
  over(): void {
    this.#pause = 0;
    this.#until = Number.NEGATIVE_INFINITY;
  }
}
