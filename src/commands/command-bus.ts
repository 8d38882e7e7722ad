import type { Backlog, Delivery, Disposition, StreamPosition } from '../bus/delivery.js';
import type { EventKind } from '../messages/events.js';

/** The part of the bus that commands need. */
export interface CommandBus {
  position(): Promise<StreamPosition>;
  /** The message with this sequence, if it exists. */
  at(seq: number): Promise<Delivery | undefined>;
  /** The commands after `after`. For null: the commands from the last `usable` deploy on. */
  backlog(after: number | null, usable: (deploy: Delivery) => boolean): Promise<Backlog>;
  /** Reads the commands between two sequences. Starts again from the beginning whenever the connection breaks. */
  bodies(range: readonly [number, number], begin: () => (delivery: Delivery) => void): Promise<void>;
  /** @param onResume called when consuming resumes after a loss; returns the sequence after which to continue */
  consume(
    after: number,
    handler: (delivery: Delivery) => Promise<Disposition>,
    onResume: (position: StreamPosition) => Promise<number | undefined>,
  ): Promise<void>;
  /** Resolves when the streams have confirmed every acknowledgement in the journal's outbox. */
  flushOutbox(): Promise<void>;
  publishEvent(kind: EventKind, message: string, data?: Record<string, unknown>): void;
  /** Publishes what the host is like after a command. Nobody waits for it, and commands in quick succession share one. */
  publishSnapshotSoon(): void;
  /** Keeps a copy of a command that is not tried any more. Resolves when it is stored. */
  deadLetter(delivery: Delivery): Promise<void>;
}
