import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../bus/connect.js';
import { ensureStreams } from '../bus/streams.js';
import type { Subjects } from '../messages/subjects.js';
import type { Logger } from '../telemetry/log.js';

export interface StreamRestorerOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly log: Logger;
  /** Ends the wait before the streams are created. */
  readonly signal: AbortSignal;
  /** Called when the streams exist again. */
  readonly onRestored: () => void;
}

/**
 * nats-server 2.9 still removes files of a stream after it has reported the deletion. A stream created again at once
 * would lose files.
 */
const SETTLE_MS = 2_000;

/** Creates missing streams. All who notice a missing stream at that time share one attempt. */
export class StreamRestorer {
  readonly #options: StreamRestorerOptions;
  #restoring: Promise<void> | undefined;

  constructor(options: StreamRestorerOptions) {
    this.#options = options;
  }

  /** @throws errors of `ensureStreams`; an AbortError when the signal ends the wait */
  restore(): Promise<void> {
    this.#restoring ??= this.#restore().finally(() => {
      this.#restoring = undefined;
    });
    return this.#restoring;
  }

  /** Starts the restoration without waiting for it. */
  begin(): void {
    const { log, signal } = this.#options;
    this.restore().catch((error: unknown) => {
      if (!signal.aborted) log.warn({ err: error }, 'could not create the missing streams');
    });
  }

  async #restore(): Promise<void> {
    const { bus, subjects, log, signal, onRestored } = this.#options;
    await sleep(SETTLE_MS, undefined, { signal });
    await ensureStreams(bus, subjects, log);
    onRestored();
  }
}
