import type { Backlog, Delivery, Disposition, StreamPosition } from '../bus/delivery.js';
import type { EventKind } from '../messages/events.js';

/** The bus, as far as commands need it. */
export interface CommandBus {
  position(): Promise<StreamPosition>;
  /** The message with a sequence, if there is one. */
  at(seq: number): Promise<Delivery | undefined>;
  /** The commands past `after`; for null, those from the last deploy that is `usable` on. */
  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog>;
  /** Hands over the commands between two sequences, once more from the beginning whenever the connection breaks. */
  bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void>;
  consume(after: number, handler: (delivery: Delivery) => Promise<Disposition>): Promise<void>;
  /** Resolves when every acknowledgement in the journal's outbox is confirmed by its stream. */
  flushOutbox(): Promise<void>;
  publishEvent(kind: EventKind, message: string, data?: Record<string, unknown>): void;
  publishSnapshot(): Promise<void>;
  /** Keeps a copy of a command that is passed by, and resolves when it is stored. */
  deadLetter(delivery: Delivery): Promise<void>;
}
