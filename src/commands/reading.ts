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

export function readDelivery(delivery: Delivery, hostName: string): Reading {
  let envelope = NO_ENVELOPE;
  try {
    envelope = parseEnvelope(delivery);
    return { ok: true, envelope, command: parseCommand(delivery.verb, delivery.body, hostName) };
  } catch (error) {
    return { ok: false, envelope, error };
  }
}

/** The key of a delivery's command in the journal. */
export function keyOf({ id, seq, storedAt, streamCreated }: DeliveryHead): CommandKey {
  return { id, seq, storedAt, streamCreated, idIsSequence: id.endsWith(`:${seq}`) };
}
