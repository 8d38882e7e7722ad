import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { pauseAfter } from '../retry.js';

export interface LinkEventsOptions {
  /** Called for every interface that is added, removed or changes its state; often several times for one change. */
  readonly onChange: () => void;
  readonly log: { warn(fields: object, message: string): void };
  /** Path or name of ip(8); `ip` when absent. */
  readonly command?: string;
  /** Pause before the first restart; it doubles each further time, up to a limit. */
  readonly firstPauseMs?: number;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5 * 60_000;
/** How many characters of the error output of `ip` are logged. */
const MOST_SAID = 500;

/**
 * Reports changes to network interfaces, from rtnetlink by way of ip-monitor(8), so that a chain is restored as soon as
 * its interface is back. Only a hint: a change that is missed is found at the next regular check.
 */
export class LinkEvents {
  readonly #options: Required<LinkEventsOptions>;
  #monitor: ChildProcess | undefined;
  #again: NodeJS.Timeout | undefined;
  /** How often in a row it has ended without reporting anything. */
  #failures = 0;
  #stopped = false;

  constructor(options: LinkEventsOptions) {
    this.#options = { command: 'ip', firstPauseMs: FIRST_PAUSE_MS, ...options };
  }

  start(): void {
    try {
      this.#listen();
    } catch (err) {
      this.#startAgain({ err });
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#again);
    this.#monitor?.kill();
  }

  #listen(): void {
    // Without this it would outlive an agent that is killed, until it writes the next change into the closed pipe.
    const args = ['--pdeathsig', 'KILL', this.#options.command, '-oneline', 'monitor', 'link'];
    const monitor = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#monitor = monitor;
    // With too many open files there are no pipes either; the error is reported below.
    const { stdout, stderr } = monitor as Partial<typeof monitor>;
    if (stdout) createInterface(stdout).on('line', () => this.#tell());
    let said = '';
    stderr?.on('data', (data) => {
      said = `${said}${data}`.slice(0, MOST_SAID);
    });
    // A process that could not be started emits no `close`. One that has ended may have emitted `error` before.
    let isOver = false;
    const over = (fields: object) => {
      if (!isOver) this.#startAgain(fields);
      isOver = true;
    };
    monitor.once('error', (err) => over({ err }));
    monitor.once('close', (code, signal) => over({ code, signal, said: said.trim() }));
  }

  #tell(): void {
    this.#failures = 0;
    if (!this.#stopped) this.#options.onChange();
  }

  #startAgain(fields: object): void {
    if (this.#stopped) return;
    this.#failures += 1;
    const pauseMs = pauseAfter(this.#failures, { firstMs: this.#options.firstPauseMs, capMs: LONGEST_PAUSE_MS });
    const message =
      'link events have ended and will be restarted; until then, interfaces are only checked at intervals';
    this.#options.log.warn({ ...fields, pause_ms: pauseMs }, message);
    this.#again = setTimeout(() => this.start(), pauseMs).unref();
  }
}
