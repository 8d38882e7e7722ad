import { Deadline } from '../deadline.js';
import { retry } from '../retry.js';
import type { Bus } from './connect.js';
import { isNoResponders } from './nats-errors.js';

/**
 * The answers to a message that JetStream understands. Without a reason, because servers of 2.9 ignore a termination
 * that has one.
 */
export type FinalAck = '+ACK' | '+TERM';

export interface SettleOptions {
  /** After this long without success the server delivers the message again, and there is nothing left to settle. */
  readonly deadlineMs: number;
  /** Once aborted, the current attempt is the last. */
  readonly signal: AbortSignal;
  /** Aborted when the connection that delivered the message is lost. */
  readonly session: AbortSignal;
  /** Whether the server still waits for an answer to the message; undefined if the consumer no longer exists. */
  readonly isAwaited: () => Promise<boolean | undefined>;
}

const ATTEMPT_TIMEOUT_MS = 5_000;
const BACKOFF = { firstMs: 100, capMs: 2_000, isSpread: true };
/** A deleted consumer does not answer, but neither does one that is still being recovered. */
const NO_RESPONDERS_LIMIT = 4;

/**
 * Answers a message until the server has confirmed the answer. A plain acknowledgement can be lost with the connection
 * or the server, unnoticed. It is sent as a request, since nats.js's `ackAck` works only once per message and its
 * `term` cannot be confirmed.
 *
 * A server that was killed meanwhile may have taken the answer without confirming it, or may have forgotten that it
 * delivered the message. From version 2.10 on it then does not reply to an answer. So after a reconnect the server is
 * first asked whether it still waits for one.
 *
 * @returns whether there is nothing left to settle; if not, the message will be delivered again
 */
export async function settle(bus: Bus, reply: string, verdict: FinalAck, options: SettleOptions): Promise<boolean> {
  const { nc, connection } = bus;
  using deadline = new Deadline(options.deadlineMs, options.signal, connection.closed);
  const { signal: expired } = deadline;
  let unanswered = 0;
  const send = async () => {
    if (options.session.aborted) {
      await connection.untilConnected(expired);
      // If the server cannot be asked, send the answer.
      const isAwaited = await options.isAwaited().catch(() => true);
      if (isAwaited !== true) return isAwaited === false;
    }
    await connection.guard(nc.request(reply, verdict, { timeout: ATTEMPT_TIMEOUT_MS }));
    return true;
  };
  const isPassing = (error: unknown) => {
    unanswered = isNoResponders(error) ? unanswered + 1 : 0;
    return unanswered < NO_RESPONDERS_LIMIT;
  };
  return await retry(send, { backoff: BACKOFF, signal: expired, onAbort: 'try-once-more', isPassing }).catch(
    () => false,
  );
}
