import { messageOf } from '../errors.js';
import { retry } from '../retry.js';
import type { Bus } from './connect.js';
import { isTransient } from './nats-errors.js';
import { refusalOf } from './refusals.js';

/** Pauses between two attempts at an exchange with the server. */
export const EXCHANGE_BACKOFF = { firstMs: 250, capMs: 10_000, isSpread: true };

export interface InsistOptions {
  /** Once aborted, the next failure is the last. Default: aborted when the connection is closed. */
  readonly signal?: AbortSignal;
  /** Which failures are worth another attempt. */
  readonly passes?: (error: unknown) => boolean;
  /** Called with the first failure, and with each that has another reason than the one before. */
  readonly onRetry?: (error: unknown) => void;
}

/**
 * Repeats an exchange with the server, after longer and longer pauses, while its failure is temporary: the server is
 * away or just starting.
 *
 * @throws the error of the exchange, if it is permanent
 */
export async function insist<T>(bus: Bus, exchange: () => Promise<T>, options: InsistOptions = {}): Promise<T> {
  const { closed } = bus.connection;
  const { signal = closed, passes = isTransient, onRetry } = options;
  let told: string | undefined;
  const task = async (tries: number) => {
    if (tries > 1) await bus.connection.untilConnected(signal);
    return exchange();
  };
  return retry(task, {
    backoff: EXCHANGE_BACKOFF,
    signal,
    onAbort: 'try-once-more',
    isPassing: (error) => passes(error) && !closed.aborted,
    onRetry: (error) => {
      const reason = messageOf(error);
      if (reason !== told) onRetry?.(error);
      told = reason;
    },
  });
}

/**
 * Whether somebody can make the same request succeed without starting the agent again: at the server, or at its account.
 * Meanwhile the agent keeps the host in its desired state, and its health says what is missing.
 */
export function isCurable(error: unknown): boolean {
  return isTransient(error) || refusalOf(error) !== undefined;
}
