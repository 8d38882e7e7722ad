import { createInbox, type Msg, nanos } from 'nats';
import type { Bus } from './connect.js';
import type { Denial } from './connection.js';

export type Pulled =
  | { readonly kind: 'message'; readonly message: Msg }
  /** No message came within the time that the server waits, or the caller has stopped. */
  | { readonly kind: 'nothing' }
  /**
   * Anything else: the connection broke, the consumer does not exist, nobody answers. Check the consumer before the
   * next request.
   */
  | { readonly kind: 'lost'; readonly reason: string }
  /** The server takes no requests for the consumer: it says nothing at all, or does not permit them. */
  | { readonly kind: 'unanswered'; readonly reason: string };

export interface PullRequest {
  readonly stream: string;
  readonly consumer: string;
  /** How long the server waits for a message to come. */
  readonly expiresMs: number;
  /** Withdraws the request. */
  readonly signal: AbortSignal;
}

/**
 * How much longer than the server the agent waits before it takes silence for an absent consumer. Server 2.9 sends
 * nothing then.
 */
const GRACE_MS = 2_000;

/**
 * Asks a pull consumer for one message. nats.js's own iterators cannot be cancelled. A request that outlives its
 * connection or its caller would take a message that nobody handles, and delay all others for the ack wait.
 */
export function pullOne(bus: Bus, { stream, consumer, expiresMs, signal }: PullRequest): Promise<Pulled> {
  const { nc, connection, jsApiPrefix, inboxPrefix } = bus;
  const { session } = connection;
  if (signal.aborted) return Promise.resolve({ kind: 'nothing' });
  if (session.aborted || nc.isClosed()) return Promise.resolve({ kind: 'lost', reason: 'there is no connection' });

  const subject = `${jsApiPrefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
  const silence = `the consumer ${consumer} of ${stream} does not answer: it may have no leader, because too many servers that have it are down`;
  return new Promise((resolve) => {
    let settled = false;
    const settle = (pulled: Pulled, release: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      session.removeEventListener('abort', onBreak);
      signal.removeEventListener('abort', onStop);
      forgetDenials();
      release();
      resolve(pulled);
    };
    const subscription = nc.subscribe(createInbox(inboxPrefix), {
      callback: (error, message) => {
        const pulled = error ? ({ kind: 'lost', reason: error.message } as const) : answered(message);
        if (settled && pulled.kind === 'message') message.respond('-NAK');
        settle(pulled, forget);
      },
    });
    const forget = () => subscription.unsubscribe();
    /** A message may be in transit: it is still received, and given back at once. */
    const recall = () => void subscription.drain().catch(() => {});
    const onBreak = () => settle({ kind: 'lost', reason: 'the connection broke' }, forget);
    const onStop = () => settle({ kind: 'nothing' }, recall);
    const onSilence = () => settle({ kind: 'unanswered', reason: silence }, recall);
    const onDenial = (denial: Denial) => {
      if (denial.subject !== subject && denial.subject !== subscription.getSubject()) return;
      const reason = `the account is not permitted to use ${denial.subject}; grant the permission`;
      settle({ kind: 'unanswered', reason }, forget);
    };
    const timer = setTimeout(onSilence, expiresMs + GRACE_MS);
    session.addEventListener('abort', onBreak);
    signal.addEventListener('abort', onStop);
    const forgetDenials = connection.onDenied(onDenial);
    nc.publish(subject, JSON.stringify({ batch: 1, expires: nanos(expiresMs) }), { reply: subscription.getSubject() });
  });
}

/**
 * Messages have their stream's reply subject. The server's own answers have a status: 404 and 408 mean that there was
 * no message.
 */
function answered(message: Msg): Pulled {
  if (message.reply) return { kind: 'message', message };
  const { code = 0, description = 'no status' } = message.headers ?? {};
  if (code === 404 || code === 408) return { kind: 'nothing' };
  return { kind: 'lost', reason: `${code} ${description}` };
}
