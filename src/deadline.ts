/**
 * Ends a wait when its time is over, or when one of other signals aborts. Release it with `using`.
 *
 * Not AbortSignal.any() with AbortSignal.timeout(): on Node.js 20 a garbage collection may remove the timer, and the
 * wait then never ends (https://github.com/nodejs/node/issues/57736).
 */
export class Deadline implements Disposable {
  /** Aborted with a TimeoutError, or with the reason of the other signal. */
  readonly signal: AbortSignal;
  readonly #others: readonly AbortSignal[];
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.#controller.abort(this.#others.find(({ aborted }) => aborted)?.reason);
  #isOver = false;

  /** @param ms from now; ends at once if it is not positive */
  constructor(ms: number, ...others: readonly AbortSignal[]) {
    this.signal = this.#controller.signal;
    this.#others = others;
    const end = () => {
      this.#isOver = !this.signal.aborted;
      this.#controller.abort(new DOMException('The time is over', 'TimeoutError'));
    };
    this.#timer = setTimeout(end, Math.max(0, Math.ceil(ms)));
    for (const other of others) other.addEventListener('abort', this.#onAbort);
    if (others.some(({ aborted }) => aborted)) this.#onAbort();
  }

  /** Whether the time ended the wait. */
  get isOver(): boolean {
    return this.#isOver;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const other of this.#others) other.removeEventListener('abort', this.#onAbort);
  }
}
