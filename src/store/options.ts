import type { FileOps } from './file-ops.js';

export interface JournalOptions {
  /** Directory of the journal; made if it does not exist. Only one process may use it: see {@link file://./lock.ts}. */
  readonly dir: string;
  /** How many finished commands are remembered; default 4096. Commands with unconfirmed answers are not counted. */
  readonly maxRecords?: number;
  /** Total length of the bodies of remembered answers, in UTF-16 code units; default 4 Mi. */
  readonly maxAnswerLength?: number;
  /** Size in bytes below which the file is never compacted; default 1 MiB. */
  readonly compactAbove?: number;
  /** How long a confirmation may wait to be included in another write, in milliseconds; default 1000. */
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
  /** There was no journal: the host is new, or its state directory was emptied. */
  readonly fresh: boolean;
  /**
   * The journal was damaged and is kept under another name. The new one is empty, and the desired state is not known.
   */
  readonly damaged?: { readonly path: string; readonly reason: string };
  /** A crash interrupted the last write, and it was removed. */
  readonly truncatedTail: boolean;
}
