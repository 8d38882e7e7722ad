import type { FileOps } from './file-ops.js';

export interface JournalOptions {
  /** Directory of the journal; made if it is absent. Only one process may use it: see {@link file://./lock.ts}. */
  readonly dir: string;
  /** Finished commands that are remembered; 4096 if absent. Those whose answers are on their way come on top. */
  readonly maxRecords?: number;
  /** Length of remembered answers, all bodies together, in UTF-16 code units; 4 Mi if absent. */
  readonly maxAnswerLength?: number;
  /** Bytes below which the file is never compacted; 1 MiB if absent. */
  readonly compactAbove?: number;
  /** How long a confirmation may wait for another write to go with, in milliseconds; 1000 if absent. */
  readonly confirmDelayMs?: number;
  readonly logger?: JournalLogger;
  readonly files?: FileOps;
}

export interface JournalLogger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What was found on disk. */
export interface OpenReport {
  /** There was no journal: a new host, or one whose state directory was emptied. */
  readonly fresh: boolean;
  /** The journal that was there could not be trusted and is kept aside; an empty one began, with nothing known of the desired state. */
  readonly damaged?: { readonly path: string; readonly reason: string };
  /** The last write was cut short by a crash and undone. */
  readonly truncatedTail: boolean;
}
