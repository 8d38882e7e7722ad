import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compileObject } from './compile.js';
import { PROJECT_ROOT } from './project.js';
import { run } from './tool.js';

/** The sources of ../native, which are compiled for each test, since some contain a path that is known only then. */
export type ProbeSource = 'events' | 'calls' | 'beside' | 'mixed' | 'single';

/** Number of getpgid(2) on this machine (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const NR_GETPGID = arch() === 'x64' ? 121 : 155;

/** A program that does what probes observe, and the objects with such probes, in their own folder. */
export class Probed {
  readonly dir: string;
  /** Path of the program. */
  readonly target: string;
  #process: ChildProcess | undefined;

  private constructor(dir: string) {
    this.dir = dir;
    this.target = join(dir, 'target');
  }

  static async make(): Promise<Probed> {
    const probed = new Probed(await mkdtemp(join(tmpdir(), 'l3af-probed-')));
    await run('clang', ['-O2', sourcePath('target.c'), '-o', probed.target]);
    return probed;
  }

  /**
   * Compiles a source.
   *
   * @param section of `single`
   * @returns the object's path
   */
  async object(source: ProbeSource, section = ''): Promise<string> {
    const path = join(this.dir, `${source}${section.replaceAll(/[^a-z_]/g, '-')}.bpf.o`);
    if (existsSync(path)) return path;
    const defines = { TARGET: `"${this.target}"`, SECTION: `"${section}"`, HOST_NR_GETPGID: NR_GETPGID };
    await compileObject(source, path, ...Object.entries(defines).map(([name, value]) => `-D${name}=${value}`));
    return path;
  }

  /** Starts the program. @returns its process id */
  start(): number {
    this.#process = spawn(this.target, { stdio: ['pipe', 'pipe', 'inherit'] });
    return this.#process.pid ?? 0;
  }

  /** Makes it call its function, and getpgid(2), this many times. */
  async call(times: number): Promise<void> {
    const { stdin, stdout } = this.#process ?? {};
    if (!stdin || !stdout) throw new Error('the program is not running');
    const lines = createInterface({ input: stdout });
    const answered = once(lines, 'line');
    stdin.write(`${times}\n`);
    await answered;
    lines.close();
  }

  async close(): Promise<void> {
    if (this.#process?.exitCode === null) {
      const ended = once(this.#process, 'exit');
      this.#process.stdin?.end();
      await ended;
    }
    await rm(this.dir, { recursive: true });
  }
}

function sourcePath(name: string): string {
  return join(PROJECT_ROOT, 'test', 'native', name);
}
