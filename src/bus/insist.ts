import { pause, retryDelay } from './backoff.js';
import type { Bus } from './connect.js';
import { isTransient } from './nats-errors.js';

export interface InsistOptions {
  /** Once aborted, the next failure is the last; the connection's end by default. */
  readonly signal?: AbortSignal;
  /** Which failures are worth another try. */
  readonly passes?: (error: unknown) => boolean;
  /** Told of the first failure. */
  readonly onRetry?: (error: unknown) => void;
}

/**
 * Tries an exchange with the server again, later and later, for as long as its failure is one that passes: a server that is away or
 * just starting.
 *
 * @throws whatever the exchange fails with for good
 */
export async function insist<T>(bus: Bus, exchange: () => Promise<T>, options: InsistOptions = {}): Promise<T> {
  const { closed } = bus.connection;
  const { signal = closed, passes = isTransient, onRetry } = options;
  for (let attempt = 0; ; attempt++) {
    try {
      return await exchange();
    } catch (error) {
      if (!passes(error) || signal.aborted || closed.aborted) throw error;
      if (attempt === 0) onRetry?.(error);
    }
    await pause(retryDelay(attempt), signal);
    await bus.connection.untilConnected(signal);
  }
}
