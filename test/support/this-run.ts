import { appendFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { linkAt, textAt } from '../../src/datapath/libbpf/diagnostics/procfs.js';

/** Name prefix of the folder in which one run of tests has all its files: see test/run/main.ts. */
export const RUN_FOLDER_PREFIX = 'l3af-tests-';
const MADE = 'made';

/**
 * Notes the name of an interface or network namespace that this run creates, so that the runner can check that it is
 * removed.
 */
export function noteMade(name: string): void {
  if (isRunFolder(tmpdir())) appendFileSync(join(tmpdir(), MADE), `${name}\n`);
}

/** The names that were noted in a run; the note is removed. */
export function takeNoted(folder: string): Set<string> {
  const path = join(folder, MADE);
  const names = textAt(path).split('\n');
  rmSync(path, { force: true });
  return new Set(names.filter((name) => name !== ''));
}

/** Whether a folder was made by the runner; without the runner it is the folder of all temporary files. */
export function isRunFolder(folder: string): boolean {
  return basename(folder).startsWith(RUN_FOLDER_PREFIX);
}

/**
 * Whether a process belongs to this run of tests: its temporary files are in the run's folder, or it was started from
 * there. The latter is for companions, which do not have our environment. Without the runner, every process may belong
 * to it.
 *
 * @param folder of the run; default: TMPDIR
 */
export function isOfThisRun(pid: number, folder = tmpdir()): boolean {
  if (!isRunFolder(folder)) return true;
  const environment = textAt(`/proc/${pid}/environ`).split('\0');
  if (environment.includes(`TMPDIR=${folder}`)) return true;
  const places = ['exe', 'cwd'].map((name) => linkAt(`/proc/${pid}/${name}`));
  const words = textAt(`/proc/${pid}/cmdline`).split('\0');
  return [...places, ...words].some((text) => text.startsWith(`${folder}/`));
}
