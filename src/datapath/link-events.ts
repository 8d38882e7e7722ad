import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LinkEventsOptions {
  /** Called for every interface that appears, goes, or changes its state; often several times for one change. */
  readonly onChange: () => void;
  readonly log: { warn(fields: object, message: string): void };
}

const RESTART_MS = 5_000;

/**
 * Tells of changes to network interfaces as rtnetlink reports them, by way of ip-monitor(8), so that a chain is restored as soon as its
 * interface is back. Only a hint: whoever misses one finds out at the next regular look.
 */
export class LinkEvents {
  readonly #options: LinkEventsOptions;
  #monitor: ChildProcess | undefined;
  #stopped = false;

  constructor(options: LinkEventsOptions) {
    this.#options = options;
  }

  start(): void {
    const monitor = spawn('ip', ['-oneline', 'monitor', 'link'], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#monitor = monitor;
    createInterface(monitor.stdout).on('line', () => this.#options.onChange());
    monitor.once('error', (error) => this.#options.log.warn({ err: error }, 'link events are not available'));
    monitor.once('exit', async () => {
      if (this.#stopped) return;
      await sleep(RESTART_MS, undefined, { ref: false });
      if (!this.#stopped) this.start();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#monitor?.kill();
  }
}
