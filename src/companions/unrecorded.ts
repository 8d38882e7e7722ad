import { open, readlink } from 'node:fs/promises';
import { commandLineOf, type ProcessStat, runningProcesses } from './proc.js';
import { Sight, type Target } from './terminate.js';

/** What the kernel reads of a script to find its interpreter, see execve(2). */
const FIRST_LINE = 255;
/** What runs a script that names no interpreter: the shell that was to become it, see launch.ts. */
const SHELL = '/bin/sh';
const ELF = '\x7fELF';

/**
 * Instances of a companion that nobody has a record of: they run this very file, by its whole path, for this very hook. A debugger or a
 * tracer that was given the same words runs another file, and is none.
 *
 * @param recorded companions whose processes are known, workers with the same words included
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
  // Seldom is there any, so that seldom all the others have to be looked for.
  if (found.length === 0) return found;
  const known = new Set<number>();
  for (const target of recorded) for (const { pid } of await (await Sight.of(target)).look()) known.add(pid);
  return found.filter(({ pid }) => !known.has(pid));
}

/** What runs a script: the words before its path. */
interface Interpreter {
  readonly words: readonly string[];
  /** Whether `env` has looked for it along the search path. */
  readonly searched: boolean;
}

/** @returns undefined for what is no script */
async function interpreterOf(program: string): Promise<Interpreter | undefined> {
  const start = await startOf(program);
  if (start === undefined || start.startsWith(ELF)) return undefined;
  if (!start.startsWith('#!')) return { words: [SHELL], searched: false };
  // The kernel makes one word of all that stands behind the interpreter.
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
