import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { Companions, type CompanionsOptions } from '../../src/companions/companions.js';
import type { CompanionLaunch } from '../../src/domain/companion.js';
import type { ChainHook, InterfaceHook } from '../../src/domain/hook.js';
import type { Companion } from '../../src/domain/program.js';
import { AgentError } from '../../src/errors.js';
import { untilGiven } from './until.js';

export const HOOK: InterfaceHook = { iface: 'veth0', direction: 'xdpingress' };

/** A line of the log. */
export interface Logged {
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A daemon that logs its arguments and keeps running. */
export const DAEMON = '#!/bin/sh\necho "args: $*"\nexec sleep 1000\n';

/** Short, but long enough for a shell to start on a busy machine. */
const TIMES = { settleMs: 300, commandMs: 10_000, stopMs: 5_000, killMs: 10_000 };

/** A package's folder with scripts, and companions that are started from it. Everything is removed with the test. */
export class CompanionBed {
  readonly dir: string;
  readonly logged: Logged[] = [];
  readonly #options: Partial<CompanionsOptions>;
  readonly #opened: Companions[] = [];

  private constructor(dir: string, options: Partial<CompanionsOptions>) {
    this.dir = dir;
    this.#options = options;
  }

  static async create(t: TestContext, options: Partial<CompanionsOptions> = {}): Promise<CompanionBed> {
    const bed = new CompanionBed(await mkdtemp(join(tmpdir(), 'l3af-companions-')), options);
    await mkdir(join(bed.dir, 'package'));
    t.after(() => bed.#dispose());
    return bed;
  }

  /** Companions as an agent has them; another call simulates the agent's next process. */
  async open(): Promise<Companions> {
    const write = (fields: object, message: string) => void this.logged.push({ ...fields, message });
    const companions = new Companions({
      dir: join(this.dir, 'state'),
      packages: {
        objectPath: async (_ref, file) => {
          const path = join(this.dir, 'package', file);
          await readFile(path).catch(() => {
            throw new AgentError('OBJECT_FILE_NOT_FOUND', `the package has no file ${file}`);
          });
          return path;
        },
      },
      log: { debug: write, info: write, warn: write },
      ...this.#options,
      times: { ...TIMES, ...this.#options.times },
    });
    this.#opened.push(companions);
    await companions.open();
    return companions;
  }

  path(file: string): string {
    return join(this.dir, 'package', file);
  }

  async script(file: string, text: string): Promise<void> {
    await mkdir(dirname(this.path(file)), { recursive: true });
    await writeFile(this.path(file), text, { mode: 0o755 });
  }

  /** What the companions have logged, in order. */
  said(stream?: 'stdout' | 'stderr'): readonly string[] {
    return this.logged
      .filter(({ message }) => message === 'companion output')
      .filter((line) => stream === undefined || line.stream === stream)
      .map(({ line }) => String(line));
  }

  /** Waits until a companion has logged something, and returns the line. */
  hears(pattern: RegExp): Promise<string> {
    return untilGiven(`a companion says ${pattern}`, () => this.said().find((line) => pattern.test(line)));
  }

  async #dispose(): Promise<void> {
    for (const companions of this.#opened) {
      for (const { launch } of await companions.observe()) await companions.stop(launch).catch(() => undefined);
      await companions.close();
    }
    const left = processesWith(this.dir);
    for (const pid of left) process.kill(pid, 'SIGKILL');
    await rm(this.dir, { recursive: true, force: true });
    assert.deepEqual(left, [], 'processes were left behind');
  }
}

/** The arguments for starting a companion; default: a daemon by `cmd_start: run`. */
export function launchOf(
  overrides: Partial<Companion> = {},
  name = 'watcher',
  hook: ChainHook = HOOK,
): CompanionLaunch {
  return {
    hook,
    package: { name, version: '1.0', artifact: `${name}.tar.gz`, repoUrl: '' },
    companion: { ...NO_COMPANION, cmdStart: 'run', daemon: true, ...overrides },
  };
}

/** Process id of the only companion. */
export async function pidOf(companions: Companions): Promise<number> {
  const [found, ...others] = await companions.observe();
  assert.ok(found?.pid !== undefined && others.length === 0);
  return found.pid;
}

const NO_COMPANION: Companion = {
  cmdStart: '',
  startArgs: {},
  daemon: false,
  cmdStop: '',
  stopArgs: {},
  cmdStatus: '',
  statusArgs: {},
  cmdUpdate: '',
  updateArgs: {},
  cmdConfig: '',
  configArgs: {},
  cpuSeconds: 0,
  memoryBytes: 0,
  rulesFile: '',
  rules: '',
};

/** Ids of the processes, including zombies, whose working directory or command line is below a folder. */
export function processesWith(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter(
      (pid) =>
        contentOf(`/proc/${pid}/cmdline`).includes(folder) ||
        contentOf(`/proc/${pid}/environ`).includes(`PWD=${folder}`),
    )
    .map(Number);
}

/**
 * Those of some processes that have executed a program of their own. A shell’s child looks like the shell until it
 * executes `sleep`.
 */
export function withoutForks(pids: readonly number[]): number[] {
  const wordsOf = (pid: number) => contentOf(`/proc/${pid}/cmdline`);
  return pids.filter((pid) => {
    const parent = parentOf(pid);
    return parent === undefined || !pids.includes(parent) || wordsOf(pid) !== wordsOf(parent);
  });
}

function parentOf(pid: number): number | undefined {
  const parent = /\) . (\d+)/.exec(contentOf(`/proc/${pid}/stat`))?.[1];
  return parent === undefined ? undefined : Number(parent);
}

/** State of a process as one letter, `Z` for a zombie; undefined if it is gone. */
export function stateOf(pid: number): string | undefined {
  return /\) (.)/.exec(contentOf(`/proc/${pid}/stat`))?.[1];
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Asserts that something fails with a code, and returns the error. */
export async function failsWith(promise: Promise<unknown>, code: string, message: RegExp): Promise<AgentError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}, but it succeeded`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof AgentError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return error;
}
