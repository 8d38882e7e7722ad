import { readdir, readFile } from 'node:fs/promises';

/** One process, told apart from any later one with the same id by the time of its start. */
export interface ProcessKey {
  readonly pid: number;
  /** Clock ticks from boot to the process's start, as /proc has it. */
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

/** @returns undefined for a process that is not there */
export async function statOf(pid: number): Promise<ProcessStat | undefined> {
  const text = await contentOf(pid, 'stat');
  if (text === undefined) return undefined;
  // The command name may hold anything, blanks and brackets included: what follows begins after the last bracket.
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

/** Whether it is this very process that runs. A zombie does not: only its parent has business with it still. */
export async function isAlive({ pid, startTime }: ProcessKey): Promise<boolean> {
  const stat = await statOf(pid);
  return stat !== undefined && stat.startTime === startTime && !isDead(stat);
}

export function isDead({ state }: ProcessStat): boolean {
  return state === 'Z' || state === 'X';
}

/** Every process that runs, without zombies. */
export async function runningProcesses(): Promise<readonly ProcessStat[]> {
  const names = await readdir('/proc');
  const stats = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map((name) => statOf(Number(name))));
  return stats.filter((stat) => stat !== undefined).filter((stat) => !isDead(stat));
}

/** The environment that a process was started with; empty where it is not ours to read. */
export async function environmentOf(pid: number): Promise<ReadonlyMap<string, string>> {
  const entries = ((await contentOf(pid, 'environ')) ?? '').split('\0').filter((entry) => entry.includes('='));
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

/** The words of a process's command line; of a script the interpreter's come first. */
export async function commandLineOf(pid: number): Promise<readonly string[]> {
  return ((await contentOf(pid, 'cmdline')) ?? '').split('\0').slice(0, -1);
}

/** Differs from boot to boot: process ids and start times of one boot mean nothing in another. */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

async function contentOf(pid: number, file: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ESRCH: it went between being opened and being read.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
}
