import type { Logger } from '../telemetry/log.js';

/** Runs tasks in parallel with commands. A failure is logged and ends nothing. */
export class Background {
  readonly #log: Logger;
  readonly #timers: NodeJS.Timeout[] = [];
  #stopped = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Repeats a task at an interval, never twice at a time. Does nothing once this is stopped. */
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

  /** Begins no further run. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
  }
}
