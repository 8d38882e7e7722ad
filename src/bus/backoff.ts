import { setTimeout as sleep } from 'node:timers/promises';

export interface Backoff {
  /** Delay before the first retry, in milliseconds. */
  readonly firstMs?: number;
  /** No delay is longer, but for the spread. */
  readonly capMs?: number;
}

/** A quarter more or less, so that a fleet that lost its server together does not come back together. */
const SPREAD = 0.25;

/**
 * Delay in milliseconds before retry number `attempt` (from 0): doubles from `firstMs` up to `capMs`, spread at random.
 */
export function retryDelay(attempt: number, { firstMs = 250, capMs = 10_000 }: Backoff = {}): number {
  const delay = Math.min(capMs, firstMs * 2 ** Math.min(attempt, 30));
  return spread(delay);
}

export function spread(delayMs: number): number {
  return delayMs * (1 - SPREAD + 2 * SPREAD * Math.random());
}

/** Waits, or returns early once the signal is aborted. Never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    // Aborted: whoever waits looks at the signal itself.
  }
}
