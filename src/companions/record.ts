import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CompanionLaunch } from '../domain/companion.js';
import type { ProcessKey } from './proc.js';

/** The commands that a companion may have, as the payload's `cmd_…` name them. */
export const COMMANDS = ['start', 'stop', 'status', 'update', 'config'] as const;

export type CommandName = (typeof COMMANDS)[number];

/** What is kept of a companion on disk, so that an agent's successor knows it again. */
export interface CompanionRecord {
  /** 16 hexadecimal digits; stands in the environment of its processes. */
  readonly id: string;
  readonly launch: CompanionLaunch;
  /** Absolute paths of its commands. */
  readonly programs: Readonly<Partial<Record<CommandName, string>>>;
  /** Kernel ids of its program's maps at its start, ascending. */
  readonly maps: readonly number[];
  readonly restarts: number;
  /** What it loads itself: directory of the generation, and pin of the slot that it is to put the program into. */
  readonly loading?: { readonly dir: string; readonly slot: string };
  readonly bootId: string;
  /** Written before anything is started: an agent that dies then has left something that nobody has acknowledged. */
  readonly phase: 'starting' | 'running' | 'done';
  /** The process that `cmd_start` is; null before it is there. */
  readonly process: ProcessKey | null;
  /** Folder of its control group, '' for none. */
  readonly cgroup: string;
}

const NAME = 'record.json';

/** Replaces a record as a whole. It is not synced to disk: what makes it worth knowing, the process, does not survive a power cut either. */
export async function writeRecord(folder: string, record: CompanionRecord): Promise<void> {
  const path = join(folder, NAME);
  await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** What is left of the folder is then for whoever comes next to clear away. */
export async function removeRecord(folder: string): Promise<void> {
  await rm(join(folder, NAME), { force: true });
}

/** @returns undefined for one that is absent or not of this form */
export async function readRecord(folder: string): Promise<CompanionRecord | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(folder, NAME), 'utf8'));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is CompanionRecord {
  if (!isObject(value) || !isObject(value.launch) || !isObject(value.programs)) return false;
  const { id, launch, maps, restarts, loading, bootId, phase, process, cgroup } = value;
  const known = isObject(launch.hook) && isObject(launch.package) && isObject(launch.companion);
  const texts = [id, bootId, phase, cgroup].every((text) => typeof text === 'string');
  const loads = loading === undefined || (isObject(loading) && typeof loading.dir === 'string');
  const runs = process === null || (isObject(process) && typeof process.pid === 'number' && process.pid > 1);
  return known && texts && loads && runs && Array.isArray(maps) && typeof restarts === 'number';
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
