import { createInbox, type Msg, nanos } from 'nats';
import type { Bus } from './connect.js';

export type Pulled =
  | { readonly kind: 'message'; readonly message: Msg }
  /** The server had nothing for as long as it was asked to wait, or the caller has stopped. */
  | { readonly kind: 'nothing' }
  /** Anything else: the connection broke, the consumer is gone, nobody answers. Look before asking again. */
  | { readonly kind: 'lost'; readonly reason: string };

export interface PullRequest {
  readonly stream: string;
  readonly consumer: string;
  /** How long the server waits for a message to come. */
  readonly expiresMs: number;
  /** Takes the request back. */
  readonly signal: AbortSignal;
}

/** How much longer than the server we wait before taking its silence for an absent consumer (2.9 says nothing then). */
const GRACE_MS = 2_000;

/**
 * Asks a pull consumer for one message. Written by hand, because nats.js's own iterators cannot be called back: a request that outlives
 * its connection or its caller would take a message that nobody then handles, and hold up all others for the acknowledgement wait.
 */
export function pullOne(bus: Bus, { stream, consumer, expiresMs, signal }: PullRequest): Promise<Pulled> {
  const { nc, connection, jsApiPrefix, inboxPrefix } = bus;
  const { session } = connection;
  if (signal.aborted) return Promise.resolve({ kind: 'nothing' });
  if (session.aborted || nc.isClosed()) return Promise.resolve({ kind: 'lost', reason: 'there is no connection' });

  return new Promise((resolve) => {
    let settled = false;
    const settle = (pulled: Pulled, release: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      session.removeEventListener('abort', onBreak);
      signal.removeEventListener('abort', onStop);
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
    /** A message may be on its way: it is still taken, and given back at once. */
    const recall = () => void subscription.drain().catch(() => {});
    const onBreak = () => settle({ kind: 'lost', reason: 'the connection broke' }, forget);
    const onStop = () => settle({ kind: 'nothing' }, recall);
    const onSilence = () => settle({ kind: 'lost', reason: 'the consumer does not answer' }, recall);
    const timer = setTimeout(onSilence, expiresMs + GRACE_MS);
    session.addEventListener('abort', onBreak);
    signal.addEventListener('abort', onStop);
    nc.publish(
      `${jsApiPrefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`,
      JSON.stringify({ batch: 1, expires: nanos(expiresMs) }),
      { reply: subscription.getSubject() },
    );
  });
}

/** Messages carry their stream's reply subject, the server's own answers a status: 404 and 408 for nothing there. */
function answered(message: Msg): Pulled {
  if (message.reply) return { kind: 'message', message };
  const { code = 0, description = 'no status' } = message.headers ?? {};
  if (code === 404 || code === 408) return { kind: 'nothing' };
  return { kind: 'lost', reason: `${code} ${description}` };
}
