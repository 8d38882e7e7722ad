import { readFile } from 'node:fs/promises';

/**
 * The arguments of a process. Empty for a process that is ending, has ended, or belongs to the kernel (proc(5),
 * `/proc/pid/cmdline`).
 */
export async function commandLineOf(pid: number): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.split('\0').slice(0, -1);
}

/**
 * Whether a process has ended and released everything. Its sockets and files are still open after its arguments have
 * disappeared.
 */
export async function isGone(pid: number): Promise<boolean> {
  const state = await stateOf(pid);
  return state === undefined || state === 'Z' || state === 'X';
}

/** Whether a process is ending. Also true for the kernel's own processes, which have no arguments either. */
export async function isEnding(pid: number): Promise<boolean> {
  return !(await isGone(pid)) && (await commandLineOf(pid)).length === 0;
}

/** The letter after the name in parentheses; the name may contain parentheses itself (proc(5), `/proc/pid/stat`). */
async function stateOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 1).trim()[0];
}
