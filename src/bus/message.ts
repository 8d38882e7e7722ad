import type { MsgHdrs } from 'nats';
import { HEADERS, STREAMS } from '../messages/subjects.js';
import type { Delivery } from './delivery.js';

/** NATS itself uses this header to recognise a repeated message. */
const MESSAGE_ID_HEADER = 'Nats-Msg-Id';

/** Where a message came from, read from its reply subject. */
export interface Origin {
  /** Sequence in the stream. */
  readonly seq: number;
  /** 1 for the first delivery. */
  readonly deliveryCount: number;
  /**
   * When the server stored it, in milliseconds since 1970. Truncated, not rounded, so that it is the same whichever way
   * a message is read.
   */
  readonly storedAtMs: number;
}

/**
 * Reads a reply subject of JetStream:
 * `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>`, or the same with domain
 * and account hash after `ACK` (ADR-15 of NATS). Later servers may append tokens. Undefined for anything else.
 */
export function originOf(reply: string | undefined): Origin | undefined {
  const tokens = reply?.split('.') ?? [];
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK' || tokens.length < 9 || tokens.length === 10) return undefined;
  const first = tokens.length === 9 ? 4 : 6;
  const [deliveryCount, seq] = tokens.slice(first).map(Number);
  // As a number, the nanoseconds would be rounded, sometimes up to the next millisecond.
  const storedAtMs = Number(tokens[first + 3]?.slice(0, -6));
  if (![deliveryCount, seq, storedAtMs].every(Number.isFinite)) return undefined;
  return { seq: seq as number, deliveryCount: deliveryCount as number, storedAtMs };
}

export function toDelivery(
  message: { readonly subject: string; readonly data: Uint8Array; readonly headers?: MsgHdrs | undefined },
  origin: Pick<Origin, 'seq' | 'storedAtMs'>,
  streamCreated: string,
): Delivery {
  return {
    id: header(message.headers, MESSAGE_ID_HEADER) ?? `${STREAMS.commands}:${origin.seq}`,
    verb: message.subject.slice(message.subject.lastIndexOf('.') + 1),
    body: message.data,
    seq: origin.seq,
    storedAt: new Date(origin.storedAtMs).toISOString(),
    gen: header(message.headers, HEADERS.gen),
    prevGen: header(message.headers, HEADERS.prevGen),
    expires: header(message.headers, HEADERS.expires),
    streamCreated,
  };
}

/** nats.js returns '' for an absent header. An empty header is treated as absent. */
function header(headers: MsgHdrs | undefined, name: string): string | undefined {
  const value = headers?.get(name) ?? '';
  return value === '' ? undefined : value;
}
