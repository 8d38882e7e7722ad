import type { Logger } from '../telemetry/log.js';

/** What runs beside the commands: its failures are logged, and end nothing. */
export class Background {
  readonly #log: Logger;
  readonly #timers: NodeJS.Timeout[] = [];
  #stopped = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Runs a task again and again, never twice at a time; not at all once this is stopped. */
  every(intervalMs: number, task: () => Promise<void>): void {
    if (this.#stopped) return;
    let running = false;
    const timer = setInterval(async () => {
      if (running) return;
      running = true;
      await this.attempt(task);
      running = false;
    }, intervalMs);
    this.#timers.push(timer);
  }

  async attempt(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.#log.error({ err: error }, 'background task failed');
    }
  }

  /** Begins nothing any more. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
  }
}
