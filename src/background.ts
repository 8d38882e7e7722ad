import type { Logger } from './telemetry/log.js';

/** What runs beside the commands: its failures are logged, and end nothing. */
export class Background {
  readonly #log: Logger;
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Runs a task again and again, never twice at a time. */
  every(intervalMs: number, task: () => Promise<void>): void {
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
    for (const timer of this.#timers) clearInterval(timer);
  }
}
