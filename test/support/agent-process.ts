import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { FleetClient } from '../../src/client/fleet-client.js';
import { atExit } from './last-resort.js';
import { AGENT } from './project.js';
import { SLOWNESS } from './until.js';

export interface AgentProcessOptions {
  readonly hostName: string;
  /** Outlives the process: the next start finds what an earlier one left. */
  readonly stateDir: string;
  readonly bpffs: string;
  /** Package repository for programs without one. */
  readonly repoUrl?: string;
  /** Absent: the agent starts its own server, which {@link AgentProcess.dispose} ends. */
  readonly natsUrl?: string | undefined;
  readonly platform?: string;
  readonly datapath?: 'libbpf' | 'memory';
  /** Default: `off`. */
  readonly metricsAddr?: string;
  /** More settings: `{ L3AF_CHAINING: 'false' }`. */
  readonly env?: Readonly<Record<string, string>>;
  /** More command line arguments: `['--detach-on-exit']`. */
  readonly flags?: readonly string[];
}

/** A line of the agent's log; only `msg` if the line is not JSON. */
export interface LogLine {
  readonly level?: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const START_DEADLINE_MS = 30_000 * SLOWNESS;
const STOP_DEADLINE_MS = 20_000;
const POLL_MS = 25;
const LAST_WORDS = 15;

/** `l3af-agent run` as a process that can be started, killed and started again. */
export class AgentProcess {
  readonly #options: AgentProcessOptions;
  readonly #logs: LogLine[] = [];
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #forget: () => void = () => undefined;

  constructor(options: AgentProcessOptions) {
    this.#options = options;
  }

  /** Process id; undefined if the agent does not run. */
  get pid(): number | undefined {
    return this.#running?.pid;
  }

  /** The file with the address of the embedded broker, and with the password. */
  get urlFile(): string {
    return join(this.#options.stateDir, 'nats', 'url');
  }

  /** The address of the agent's broker: the given one, or that of the embedded one as the agent has written it. */
  get natsUrl(): string {
    const url = this.#options.natsUrl ?? this.#embeddedUrl();
    if (url === undefined) throw new Error('The agent has not written the address of its broker');
    return url;
  }

  /** Everything that all runs have logged so far, oldest first. */
  logs(): readonly LogLine[] {
    return this.#logs;
  }

  /** Resolves when the agent takes commands; rejects with its last log lines if it ends before that. */
  async start(): Promise<void> {
    if (this.#running !== undefined) throw new Error('The agent is running already');
    // In its own process group: Ctrl-C in a terminal goes to whoever runs this, who then stops the agent in order.
    const child = spawn(process.execPath, [AGENT, 'run', ...(this.#options.flags ?? [])], {
      env: { ...withoutSettings(process.env), ...this.#settings() },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child = child;
    this.#ended = once(child, 'close');
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#logs.push(parseLine(line)));
    }
    this.#forget();
    this.#forget = atExit(() => {
      this.#running?.kill('SIGKILL');
      killBroker(this.#options.stateDir);
    });
    await this.#untilReady();
  }

  /** Ends the process by a signal; its broker keeps running. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#running?.kill(signal);
    await this.#ended;
  }

  /** Does something while the agent is paused, so that it cannot interfere. */
  async whileHalted(act: () => Promise<unknown>): Promise<void> {
    this.#running?.kill('SIGSTOP');
    try {
      await act();
    } finally {
      this.#running?.kill('SIGCONT');
    }
  }

  /** Makes the agent shut down in order. @returns its exit status; null if it had to be killed */
  async stop(): Promise<{ code: number | null }> {
    const child = this.#child;
    const timer = setTimeout(() => child?.kill('SIGKILL'), STOP_DEADLINE_MS);
    await this.kill('SIGTERM');
    clearTimeout(timer);
    return { code: child?.exitCode ?? null };
  }

  /** Stops everything that still runs, including the agent's own broker. What it has pinned and written stays. */
  async dispose(): Promise<void> {
    await this.stop();
    while (killBroker(this.#options.stateDir)) await sleep(POLL_MS);
    this.#forget();
  }

  get #running(): ChildProcess | undefined {
    const child = this.#child;
    return child?.exitCode === null && child.signalCode === null ? child : undefined;
  }

  #settings(): Record<string, string> {
    const { hostName, stateDir, bpffs, repoUrl, natsUrl, platform, datapath, metricsAddr, env } = this.#options;
    const settings = {
      L3AF_HOST_NAME: hostName,
      L3AF_STATE_DIR: stateDir,
      L3AF_BPFFS: bpffs,
      L3AF_REPO_URL: repoUrl,
      L3AF_NATS_URL: natsUrl,
      L3AF_PLATFORM: platform,
      L3AF_DATAPATH: datapath,
      L3AF_METRICS_ADDR: metricsAddr ?? 'off',
      ...env,
    };
    return Object.fromEntries(
      Object.entries(settings).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  }

  #embeddedUrl(): string | undefined {
    // An earlier agent's file may name another address until this one has started or found its broker.
    const isTold = this.#logs.some(({ msg }) => /^(started|adopted) the embedded nats-server$/.test(String(msg)));
    return isTold && existsSync(this.urlFile) ? readFileSync(this.urlFile, 'utf8').trim() : undefined;
  }

  async #untilReady(): Promise<void> {
    const deadline = performance.now() + START_DEADLINE_MS;
    while (!(await this.#isReady())) {
      const child = this.#running;
      if (child !== undefined && performance.now() < deadline) {
        await sleep(POLL_MS);
        continue;
      }
      const what = child === undefined ? 'has ended at its start' : `is not ready after ${START_DEADLINE_MS / 1000} s`;
      await this.kill('SIGKILL');
      const lastWords = this.#logs.slice(-LAST_WORDS).map((line) => JSON.stringify(line));
      throw new Error([`The agent ${what}. Its last log lines:`, ...lastWords].join('\n  '));
    }
  }

  async #isReady(): Promise<boolean> {
    const url = this.#options.natsUrl ?? this.#embeddedUrl();
    if (this.#running === undefined || url === undefined) return false;
    try {
      const client = await FleetClient.connect({ servers: [url] });
      try {
        return (await client.status(this.#options.hostName)).ready;
      } finally {
        await client.close();
      }
    } catch {
      return false;
    }
  }
}

/** An environment without any settings of the agent that are set by chance. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('L3AF_')));
}

function parseLine(line: string): LogLine {
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed === 'object' && parsed !== null && 'msg' in parsed) return parsed as LogLine;
  } catch {
    // Not a log line of the agent, for example a stack trace of Node.js.
  }
  return { msg: line };
}

/** Kills the nats-server that an agent has left running with its state directory. @returns whether there was one */
function killBroker(stateDir: string): boolean {
  try {
    const pid = Number(readFileSync(join(stateDir, 'nats', 'nats-server.pid'), 'utf8'));
    // Process ids are reused. The command line shows whether it is the right process; a dead one has none.
    if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(stateDir)) return false;
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}
