import { setTimeout as sleep } from 'node:timers/promises';

/** The pauses between attempts. Each is twice as long as the one before, up to a limit. */
export interface Backoff {
  /** The pause after the first attempt, in milliseconds. */
  readonly firstMs: number;
  /** The longest pause without the spread, in milliseconds. Equal to `firstMs` for pauses that do not grow. */
  readonly capMs: number;
  /** Whether pauses vary at random, so that a fleet that lost its server does not come back all at once. */
  readonly isSpread?: boolean;
}

export interface RetryOptions {
  readonly backoff: Backoff;
  /** Ends the pause. */
  readonly signal?: AbortSignal | undefined;
  /** What happens after the signal: the current failure is final, or one more attempt follows at once. */
  readonly onAbort?: 'give-up' | 'try-once-more';
  /** Which failures are worth another attempt; all by default. */
  readonly isPassing?: (failure: unknown, tries: number) => boolean;
  /** Called and awaited before each pause. */
  readonly onRetry?: (failure: unknown, tries: number) => unknown;
}

/** A quarter more or less. */
const SPREAD = 0.25;
/** Limits the exponent, so that the product stays an exact number. */
const MOST_DOUBLINGS = 30;

/**
 * Tries until it succeeds, with a pause after each failure.
 *
 * @param task receives the number of the attempt, from 1 on
 * @throws the error of the last attempt: it was permanent, or the signal was aborted
 */
export async function retry<T>(task: (tries: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { backoff, signal, onAbort = 'give-up', isPassing = () => true, onRetry } = options;
  for (let tries = 1; ; tries += 1) {
    let failure: unknown;
    try {
      return await task(tries);
    } catch (error) {
      failure = error;
    }
    if (signal?.aborted || !isPassing(failure, tries)) throw failure;
    await onRetry?.(failure, tries);
    await pause(pauseAfter(tries, backoff), signal);
    if (signal?.aborted && onAbort === 'give-up') throw failure;
  }
}

/** The pause after this many failed attempts in a row, from 1 on, in milliseconds. */
export function pauseAfter(tries: number, { firstMs, capMs, isSpread = false }: Backoff): number {
  const ms = Math.min(capMs, firstMs * 2 ** Math.min(tries - 1, MOST_DOUBLINGS));
  return isSpread ? spread(ms) : ms;
}

/** A quarter more or less, at random. */
export function spread(ms: number): number {
  return ms * (1 - SPREAD + 2 * SPREAD * Math.random());
}

/** Waits, or returns early once the signal is aborted. Never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    // Aborted. The caller checks the signal itself.
  }
}
