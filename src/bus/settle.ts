import { pause, retryDelay } from './backoff.js';
import type { Bus } from './connect.js';
import { isNoResponders } from './nats-errors.js';

/** What JetStream understands as an answer to a message. Bare: servers of 2.9 ignore a termination that gives a reason. */
export type Verdict = '+ACK' | '+TERM';

export interface SettleOptions {
  /** After this long without success the server delivers the message again, and there is nothing left to settle. */
  readonly deadlineMs: number;
  /** Once aborted, the attempt in hand is the last. */
  readonly signal: AbortSignal;
}

const ATTEMPT_TIMEOUT_MS = 5_000;
/** Nobody answers for a deleted consumer, but neither for one that is still being recovered. */
const NO_RESPONDERS_LIMIT = 4;

/**
 * Answers a message until the server has confirmed it: a plain acknowledgement is lost with the connection or the server, unnoticed.
 * Sent as a request, since nats.js's `ackAck` works only once per message and its `term` cannot be confirmed at all.
 *
 * @returns whether it was confirmed; if not, the message will be delivered again
 */
export async function settle(bus: Bus, reply: string, verdict: Verdict, options: SettleOptions): Promise<boolean> {
  const { nc, connection } = bus;
  const expired = AbortSignal.any([options.signal, AbortSignal.timeout(options.deadlineMs), connection.closed]);
  let unanswered = 0;
  for (let attempt = 0; ; attempt++) {
    try {
      await connection.guard(nc.request(reply, verdict, { timeout: ATTEMPT_TIMEOUT_MS }));
      return true;
    } catch (error) {
      unanswered = isNoResponders(error) ? unanswered + 1 : 0;
    }
    if (expired.aborted || unanswered >= NO_RESPONDERS_LIMIT) return false;
    await pause(retryDelay(attempt, { firstMs: 100, capMs: 2_000 }), expired);
    await connection.untilConnected(expired);
  }
}
