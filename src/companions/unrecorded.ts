import { open, readlink } from 'node:fs/promises';
import { commandLineOf, type ProcessStat, runningProcesses } from './proc.js';
import { Sight, type Target } from './terminate.js';

/** How many bytes of a script the kernel reads to find its interpreter, see execve(2). */
const FIRST_LINE = 255;
/** Runs a script that names no interpreter: the shell of launch.ts tries to execute it, and then reads it itself. */
const SHELL = '/bin/sh';
const ELF = '\x7fELF';

/**
 * Instances of a companion without a record: processes that run exactly this file, by its full path, for exactly this
 * hook. A debugger or tracer with the same arguments runs another file and does not count.
 *
 * @param recorded companions whose processes are known, including workers with the same arguments
 */
export async function unrecordedInstances(
  program: string,
  hookArguments: readonly string[],
  recorded: readonly Target[],
): Promise<readonly ProcessStat[]> {
  const interpreter = await interpreterOf(program);
  const found: ProcessStat[] = [];
  for (const stat of await runningProcesses()) {
    const words = await commandLineOf(stat.pid);
    if (!hookArguments.every((word) => words.includes(word))) continue;
    const runs = interpreter === undefined ? await executes(stat.pid, program) : isScript(words, interpreter, program);
    if (runs) found.push(stat);
  }
  // Usually there are none. Then the slow search for known processes is not needed.
  if (found.length === 0) return found;
  const known = new Set<number>();
  for (const target of recorded) for (const { pid } of await (await Sight.of(target)).look()) known.add(pid);
  return found.filter(({ pid }) => !known.has(pid));
}

/** The interpreter of a script: the words before the script's path. */
interface Interpreter {
  readonly words: readonly string[];
  /** Whether `env` finds the interpreter in PATH. */
  readonly searched: boolean;
}

/** @returns undefined for a file that is not a script */
async function interpreterOf(program: string): Promise<Interpreter | undefined> {
  const start = await startOf(program);
  if (start === undefined || start.startsWith(ELF)) return undefined;
  if (!start.startsWith('#!')) return { words: [SHELL], searched: false };
  // The kernel passes everything after the interpreter as one word.
  const [, path, option] = /^#![ \t]*([^ \t\n]+)[ \t]*([^\n]*?)[ \t]*(?:\n|$)/.exec(start) ?? [];
  if (path === undefined) return { words: [SHELL], searched: false };
  if (!path.endsWith('/env') || !option) return { words: [path, option ?? ''].filter(Boolean), searched: false };
  return { words: option.replace(/^(-S|--split-string=?)[ \t]*/, '').split(/[ \t]+/), searched: true };
}

async function startOf(program: string): Promise<string | undefined> {
  try {
    const file = await open(program);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(FIRST_LINE), 0, FIRST_LINE, 0);
      return buffer.toString('latin1', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

function isScript([first = '', ...rest]: readonly string[], interpreter: Interpreter, program: string): boolean {
  const [name = '', ...options] = interpreter.words;
  const same = first === name || (interpreter.searched && first.endsWith(`/${name}`));
  return same && [...options, program].every((word, index) => rest[index] === word);
}

async function executes(pid: number, program: string): Promise<boolean> {
  const executable = await readlink(`/proc/${pid}/exe`).catch(() => '');
  return executable.replace(/ \(deleted\)$/, '') === program;
}
