import { once } from 'node:events';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeGroup } from './cgroup.js';
import { endingOf } from './command.js';
import { type LaunchRequest, launch } from './launch.js';
import { Output } from './output.js';
import { isAlive, statOf } from './proc.js';
import { type CompanionRecord, removeRecord, writeRecord } from './record.js';
import { type Patience, type Sight, terminate } from './terminate.js';

export interface InstanceLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** How a process has ended that is a child of this agent. */
export interface Ending {
  readonly code: number | null;
  /** In words: `exit status 3`, `SIGSEGV`. */
  readonly words: string;
}

const STREAMS = ['stdout', 'stderr'] as const;
const KEPT_LINES = 20;
const REAP_MS = 1_000;

/**
 * One companion that was started, by this agent or by one before it. Its folder holds the record and the output:
 *
 *   <folder>/record.json, stdout, stderr
 */
export class Instance {
  readonly folder: string;
  readonly #log: InstanceLog;
  readonly #outputs: Output[] = [];
  readonly #lastLines: string[] = [];
  #record: CompanionRecord;
  /** Of a process that this agent has started itself. */
  #ending: Promise<Ending> | undefined;
  #stopping = false;

  constructor(folder: string, record: CompanionRecord, log: InstanceLog) {
    this.folder = folder;
    this.#record = record;
    this.#log = log;
  }

  get record(): CompanionRecord {
    return this.#record;
  }

  /** The last lines of what it has said to this agent. */
  get lastLines(): readonly string[] {
    return this.#lastLines;
  }

  /** Makes the folder and writes the record, before anything is started that it has to tell of. */
  async create(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await writeRecord(this.folder, this.#record);
  }

  /** What cannot be written is not so. */
  async amend(changes: Partial<CompanionRecord>): Promise<void> {
    const record = { ...this.#record, ...changes };
    await writeRecord(this.folder, record);
    this.#record = record;
  }

  /** Has what the companion says in the log from now on. */
  async follow(): Promise<void> {
    for (const stream of STREAMS) {
      const output = new Output({
        path: join(this.folder, stream),
        onLine: (line) => this.#tell(line, stream),
        onDropped: (bytes) => this.#log.warn({ ...this.#fields, stream, bytes }, 'companion output dropped'),
      });
      await output.open();
      this.#outputs.push(output);
    }
  }

  /** Starts the companion's process. @throws AgentError COMPANION_FAILED */
  async run(request: Omit<LaunchRequest, 'output' | 'id' | 'command'>): Promise<void> {
    const files = await Promise.all(STREAMS.map((stream) => open(join(this.folder, stream), 'a')));
    try {
      const [stdout, stderr] = files.map(({ fd }) => fd) as [number, number];
      const child = await launch({ ...request, id: this.#record.id, output: [stdout, stderr] });
      this.#ending = once(child, 'exit').then(([code, signal]) => ({ code, words: endingOf(code, signal) }));
      void this.#ending.then(({ words }) => {
        if (!this.#stopping) this.#log.info({ ...this.#fields, ending: words }, 'companion process ended');
      });
      // An agent that stops does not wait for its companions.
      child.unref();
      const { startTime } = (await statOf(child.pid)) ?? { startTime: '' };
      const process = { pid: child.pid, startTime };
      // Known before it is written: if that fails, it is to be ended.
      this.#record = { ...this.#record, process };
      await this.amend({ process });
    } finally {
      for (const file of files) await file.close();
    }
  }

  /** How its process has ended; undefined if it runs still after that time. For a process of this agent's own. */
  async endWithin(ms: number): Promise<Ending | undefined> {
    const timer = new AbortController();
    try {
      return await Promise.race([this.#ending, sleep(ms, undefined, { signal: timer.signal })]);
    } finally {
      timer.abort();
    }
  }

  async alive(): Promise<boolean> {
    return this.#record.process !== null && (await isAlive(this.#record.process));
  }

  /** Ends all of its processes, and sees them gone. @throws AgentError LEFTOVER */
  async terminate(patience: Patience, sight?: Sight): Promise<void> {
    this.#stopping = true;
    await terminate(this.#record, patience, sight);
    // Its parent has to ask how it ended, or else it stays as a zombie.
    if (this.#ending !== undefined) await this.endWithin(REAP_MS);
  }

  async drain(): Promise<void> {
    for (const output of this.#outputs) await output.drain();
  }

  /** Lets go of it; it goes on. */
  async release(): Promise<void> {
    for (const output of this.#outputs.splice(0)) await output.close(false);
  }

  /** Removes what there is of it, after its last words are told. */
  async remove(): Promise<void> {
    for (const output of this.#outputs.splice(0)) await output.close(true);
    await removeRecord(this.folder);
    try {
      await removeGroup(this.#record.cgroup);
    } catch (error) {
      // It does no harm. The folder without a record stays as well, and tells the next agent to try again.
      this.#log.warn({ ...this.#fields, err: error }, 'the control group of a companion stays');
      return;
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  get #fields(): object {
    const { launch, process } = this.#record;
    return { program: launch.package.name, ...launch.hook, pid: process?.pid };
  }

  #tell(line: string, stream: (typeof STREAMS)[number]): void {
    this.#log.info({ ...this.#fields, stream, line }, 'companion output');
    if (this.#lastLines.push(line) > KEPT_LINES) this.#lastLines.shift();
  }
}
