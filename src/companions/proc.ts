import { readdir, readFile } from 'node:fs/promises';

/** One process. Its start time distinguishes it from any later process with the same id. */
export interface ProcessKey {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process, as in /proc. */
  readonly startTime: string;
}

export interface ProcessStat extends ProcessKey {
  /** One letter, see proc_pid_stat(5); Z and X are dead. */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
}

/** Fields of /proc/<pid>/stat counted from the one after the command name, see proc_pid_stat(5). */
const FIELD = { state: 0, parent: 1, group: 2, session: 3, startTime: 19 } as const;

/** @returns undefined for a process that does not exist */
export async function statOf(pid: number): Promise<ProcessStat | undefined> {
  const text = await contentOf(pid, 'stat');
  if (text === undefined) return undefined;
  // The command name may contain blanks and brackets, so the other fields begin after the last bracket.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    pid,
    startTime: fields[FIELD.startTime] ?? '',
    state: fields[FIELD.state] ?? 'X',
    parent: Number(fields[FIELD.parent]),
    group: Number(fields[FIELD.group]),
    session: Number(fields[FIELD.session]),
  };
}

/** Whether this process still runs. A zombie does not count. */
export async function isAlive({ pid, startTime }: ProcessKey): Promise<boolean> {
  const stat = await statOf(pid);
  return stat !== undefined && stat.startTime === startTime && !isDead(stat);
}

export function isDead({ state }: ProcessStat): boolean {
  return state === 'Z' || state === 'X';
}

/** All running processes, without zombies. */
export async function runningProcesses(): Promise<readonly ProcessStat[]> {
  const names = await readdir('/proc');
  const stats = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map((name) => statOf(Number(name))));
  return stats.filter((stat) => stat !== undefined).filter((stat) => !isDead(stat));
}

/** The environment that a process was started with; empty if we may not read it. */
export async function environmentOf(pid: number): Promise<ReadonlyMap<string, string>> {
  const entries = ((await contentOf(pid, 'environ')) ?? '').split('\0').filter((entry) => entry.includes('='));
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

/** The words of a process's command line. For a script, those of the interpreter come first. */
export async function commandLineOf(pid: number): Promise<readonly string[]> {
  return ((await contentOf(pid, 'cmdline')) ?? '').split('\0').slice(0, -1);
}

/** The id of this boot. Process ids and start times are only valid within one boot. */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

async function contentOf(pid: number, file: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ESRCH: the process ended between open and read.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
}
