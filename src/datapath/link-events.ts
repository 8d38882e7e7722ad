import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface LinkEventsOptions {
  /** Called for every interface that appears, goes, or changes its state; often several times for one change. */
  readonly onChange: () => void;
  readonly log: { warn(fields: object, message: string): void };
  /** The program that is ip(8); `ip` when absent. */
  readonly command?: string;
  /** How long to wait before it is started again for the first time; each further time twice as long, up to a limit. */
  readonly firstPauseMs?: number;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5 * 60_000;
/** Characters of what `ip` says that a line of the log may have. */
const MOST_SAID = 500;

/**
 * Tells of changes to network interfaces as rtnetlink reports them, by way of ip-monitor(8), so that a chain is restored as soon as its
 * interface is back. Only a hint: whoever misses one finds out at the next regular look.
 */
export class LinkEvents {
  readonly #options: Required<LinkEventsOptions>;
  #monitor: ChildProcess | undefined;
  #again: NodeJS.Timeout | undefined;
  /** How often in a row it has ended without having told anything. */
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
    // It would notice that nobody listens any more only at the next change, so it is to go with an agent that is killed.
    const args = ['--pdeathsig', 'KILL', this.#options.command, '-oneline', 'monitor', 'link'];
    const monitor = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#monitor = monitor;
    // Where there are too many open files, there is no pipe either; the error is told below.
    const { stdout, stderr } = monitor as Partial<typeof monitor>;
    if (stdout) createInterface(stdout).on('line', () => this.#tell());
    let said = '';
    stderr?.on('data', (data) => {
      said = `${said}${data}`.slice(0, MOST_SAID);
    });
    // A process that could not be started never ends, and one that has ended may have failed before.
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
    const pauseMs = Math.min(this.#options.firstPauseMs * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    const message =
      'link events have ended and are asked for again; until then, interfaces are looked at in intervals only';
    this.#options.log.warn({ ...fields, pauseMs }, message);
    this.#again = setTimeout(() => this.start(), pauseMs).unref();
  }
}
