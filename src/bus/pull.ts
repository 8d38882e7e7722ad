import { createInbox, type Msg, type NatsConnection, nanos } from 'nats';
import type { ConnectionWatch, Denial } from './connection.js';

export type Pulled =
  /** In the order of the stream; at least one. */
  | { readonly kind: 'messages'; readonly messages: readonly Msg[] }
  /** No message came within the time that the server waits, or the caller has stopped. */
  | { readonly kind: 'nothing' }
  /**
   * Anything else: the connection broke, the consumer does not exist, nobody answers. Check the consumer before the
   * next request.
   */
  | { readonly kind: 'lost'; readonly reason: string }
  /** The server says nothing at all. */
  | { readonly kind: 'unanswered'; readonly reason: string }
  /** The account may not ask. */
  | { readonly kind: 'denied'; readonly reason: string };

/** The connection on which to ask. */
export interface PullSource {
  readonly nc: NatsConnection;
  readonly connection: ConnectionWatch;
  /** Prefix of JetStream's API, without a dot at the end. */
  readonly jsApiPrefix: string;
  readonly inboxPrefix: string;
}

export interface PullRequest {
  readonly stream: string;
  readonly consumer: string;
  /** How many messages at most. */
  readonly batch: number;
  /** How long the server waits until there are so many, in milliseconds; 0 for what is there now. */
  readonly expiresMs: number;
  /**
   * How much longer than the server to wait before silence counts as an absent consumer, in milliseconds; 2000 by
   * default. Server 2.9 sends nothing then.
   */
  readonly graceMs?: number;
  /** Withdraws the request. */
  readonly signal: AbortSignal;
}

const GRACE_MS = 2_000;

const NOTHING = { kind: 'nothing' } as const;

/**
 * Asks a pull consumer for messages. nats.js's own iterators cannot be cancelled, and go on trying on a connection that
 * is closed. A request that outlives its connection or its caller would take messages that nobody handles, and delay all
 * others for the ack wait.
 */
export function pull(source: PullSource, request: PullRequest): Promise<Pulled> {
  const { nc, connection, jsApiPrefix, inboxPrefix } = source;
  const { stream, consumer, batch, expiresMs, graceMs = GRACE_MS, signal } = request;
  const { session } = connection;
  if (signal.aborted) return Promise.resolve(NOTHING);
  if (session.aborted || nc.isClosed()) return Promise.resolve({ kind: 'lost', reason: 'there is no connection' });

  const subject = `${jsApiPrefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
  const silence = `the consumer ${consumer} of ${stream} does not answer: it may have no leader, because too many servers that have it are down`;
  return new Promise((resolve) => {
    const messages: Msg[] = [];
    let settled = false;
    /** A failure is told by the next request if this one has got something. */
    const settle = (failure: Pulled, release: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      session.removeEventListener('abort', onBreak);
      signal.removeEventListener('abort', onStop);
      forgetDenials();
      release();
      resolve(messages.length === 0 ? failure : { kind: 'messages', messages });
    };
    const subscription = nc.subscribe(createInbox(inboxPrefix), {
      callback: (error, message) => {
        const answer = error ? ({ kind: 'lost', reason: error.message } as const) : answered(message);
        if (answer !== undefined) return settle(answer, forget);
        if (settled) return message.respond('-NAK');
        messages.push(message);
        timer.refresh();
        if (messages.length === batch) settle(NOTHING, forget);
      },
    });
    const forget = () => subscription.unsubscribe();
    /** A message may be in transit: it is still received, and given back at once. */
    const recall = () => void subscription.drain().catch(() => {});
    const onBreak = () => settle({ kind: 'lost', reason: 'the connection broke' }, forget);
    const onStop = () => settle(NOTHING, recall);
    const onSilence = () => settle({ kind: 'unanswered', reason: silence }, recall);
    const onDenial = (denial: Denial) => {
      if (denial.subject !== subject && denial.subject !== subscription.getSubject()) return;
      const reason = `the account is not permitted to use ${denial.subject}; grant the permission`;
      settle({ kind: 'denied', reason }, forget);
    };
    const timer = setTimeout(onSilence, expiresMs + graceMs);
    session.addEventListener('abort', onBreak);
    signal.addEventListener('abort', onStop);
    const forgetDenials = connection.onDenied(onDenial);
    const until = expiresMs === 0 ? { no_wait: true } : { expires: nanos(expiresMs) };
    nc.publish(subject, JSON.stringify({ batch, ...until }), { reply: subscription.getSubject() });
  });
}

/**
 * What the server itself says, by its status: 404 and 408 mean that there are no messages, or no more. Undefined for a
 * message: those have their stream's reply subject.
 */
function answered(message: Msg): Extract<Pulled, { kind: 'nothing' | 'lost' }> | undefined {
  if (message.reply) return undefined;
  const { code = 0, description = 'no status' } = message.headers ?? {};
  if (code === 404 || code === 408) return NOTHING;
  return { kind: 'lost', reason: `${code} ${description}` };
}
