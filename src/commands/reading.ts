import type { Delivery, DeliveryHead } from '../bus/delivery.js';
import type { Envelope } from '../domain/admission.js';
import type { Command } from '../domain/command.js';
import { parseEnvelope } from '../messages/envelope.js';
import { parseCommand } from '../messages/parse.js';
import type { CommandKey } from '../store/records.js';

/** A delivery that was read: its envelope and command, or the error. */
export type Reading =
  | { readonly ok: true; readonly envelope: Envelope; readonly command: Command }
  | { readonly ok: false; readonly envelope: Envelope; readonly error: unknown };

const NO_ENVELOPE: Envelope = { gen: undefined, prevGen: undefined, expires: undefined };

/** Reads a body; see {@link parseCommand}. */
type Parse = typeof parseCommand;

export function readDelivery(delivery: Delivery, hostName: string, parse: Parse = parseCommand): Reading {
  let envelope = NO_ENVELOPE;
  try {
    envelope = parseEnvelope(delivery);
    return { ok: true, envelope, command: parse(delivery.verb, delivery.body, hostName) };
  } catch (error) {
    return { ok: false, envelope, error };
  }
}

/** How many commands are kept, and how long the body of one may be, in bytes. */
const KEPT = { commands: 4, bodyBytes: 256 * 1024 } as const;

/**
 * A parser that keeps what it has read last. Controllers repeat themselves, and the same bytes always mean the same.
 * Refused bodies are read anew.
 */
export function keepingParser(parse: Parse = parseCommand): Parse {
  let kept: readonly {
    readonly verb: string;
    readonly host: string;
    readonly body: Buffer;
    readonly command: Command;
  }[] = [];
  return (verb, body, host) => {
    const known = kept.find((one) => one.verb === verb && one.host === host && one.body.equals(body));
    const read = known ?? { verb, host, body: Buffer.from(body), command: parse(verb, body, host) };
    if (body.length <= KEPT.bodyBytes) kept = [read, ...kept.filter((one) => one !== known)].slice(0, KEPT.commands);
    return read.command;
  };
}

/** The key of a delivery's command in the journal. */
export function keyOf({ id, seq, storedAt, streamCreated }: DeliveryHead): CommandKey {
  return { id, seq, storedAt, streamCreated, idIsSequence: id.endsWith(`:${seq}`) };
}
