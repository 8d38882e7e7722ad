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

/** How a child process of this agent has ended. */
export interface Ending {
  readonly code: number | null;
  /** In words: `exit status 3`, `SIGSEGV`. */
  readonly words: string;
}

const STREAMS = ['stdout', 'stderr'] as const;
const KEPT_LINES = 20;
const REAP_MS = 1_000;

/**
 * A companion that this agent or an earlier one has started. Its folder holds the record and the output:
 *
 *   <folder>/record.json, stdout, stderr
 */
export class Instance {
  readonly folder: string;
  readonly #log: InstanceLog;
  readonly #outputs: Output[] = [];
  readonly #lastLines: string[] = [];
  #record: CompanionRecord;
  /** Only for a process that this agent has started itself. */
  #pid: number | undefined;
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

  /** The last lines of output that this agent has read. */
  get lastLines(): readonly string[] {
    return this.#lastLines;
  }

  /** Makes the folder and writes the record. Must come before the start of any process. */
  async create(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await writeRecord(this.folder, this.#record);
  }

  /** Changes the record on disk, then in memory. If the write fails, nothing has changed. */
  async amend(changes: Partial<CompanionRecord>): Promise<void> {
    const record = { ...this.#record, ...changes };
    await writeRecord(this.folder, record);
    this.#record = record;
  }

  /** Logs the companion's output from now on. */
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
      // Output may arrive before the record has the pid, and must be logged with it.
      this.#pid = child.pid;
      this.#ending = once(child, 'exit').then(([code, signal]) => ({ code, words: endingOf(code, signal) }));
      void this.#ending.then(({ words }) => {
        if (!this.#stopping) this.#log.info({ ...this.#fields, ending: words }, 'companion process ended');
      });
      // The agent must be able to exit while its companions run.
      child.unref();
      const { startTime } = (await statOf(child.pid)) ?? { startTime: '' };
      const process = { pid: child.pid, startTime };
      // Set before the write, so that the process can be ended if the write fails.
      this.#record = { ...this.#record, process };
      await this.amend({ process });
    } finally {
      for (const file of files) await file.close();
    }
  }

  /** How its process has ended; undefined if it still runs after that time. Only for a child of this agent. */
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

  /** Ends all of its processes and waits until they are gone. @throws AgentError LEFTOVER */
  async terminate(patience: Patience, sight?: Sight): Promise<void> {
    this.#stopping = true;
    await terminate(this.#record, patience, sight);
    // It stays a zombie until its parent has waited for it.
    if (this.#ending !== undefined) await this.endWithin(REAP_MS);
  }

  async drain(): Promise<void> {
    for (const output of this.#outputs) await output.drain();
  }

  /** Releases the companion. It keeps running. */
  async release(): Promise<void> {
    for (const output of this.#outputs.splice(0)) await output.close(false);
  }

  /** Logs its remaining output, then removes its control group and its folder. */
  async remove(): Promise<void> {
    for (const output of this.#outputs.splice(0)) await output.close(true);
    await removeRecord(this.folder);
    try {
      await removeGroup(this.#record.cgroup);
    } catch (error) {
      // An empty group is harmless. The folder stays too, without a record, so that the next agent tries again.
      this.#log.warn({ ...this.#fields, err: error }, 'the control group of a companion could not be removed');
      return;
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  get #fields(): object {
    const { launch, process } = this.#record;
    return { program: launch.package.name, ...launch.hook, pid: process?.pid ?? this.#pid };
  }

  #tell(line: string, stream: (typeof STREAMS)[number]): void {
    this.#log.info({ ...this.#fields, stream, line }, 'companion output');
    if (this.#lastLines.push(line) > KEPT_LINES) this.#lastLines.shift();
  }
}
