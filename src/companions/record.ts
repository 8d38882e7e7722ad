import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CompanionLaunch } from '../domain/companion.js';
import { isObject } from '../domain/json.js';
import type { ProcessKey } from './proc.js';

/** The commands that a companion may have: the payload's `cmd_…` fields. */
export const COMMANDS = ['start', 'stop', 'status', 'update', 'config'] as const;

export type CommandName = (typeof COMMANDS)[number];

/** What is stored about a companion on disk, so that the next agent can adopt it. */
export interface CompanionRecord {
  /** 16 hexadecimal digits, also in the environment of its processes. */
  readonly id: string;
  readonly launch: CompanionLaunch;
  /** Absolute paths of its commands. */
  readonly programs: Readonly<Partial<Record<CommandName, string>>>;
  /** Kernel ids of its program's maps when it was started, ascending. */
  readonly maps: readonly number[];
  readonly restarts: number;
  /**
   * Present if it loads its program itself: directory of the load, and pin of the slot to put the program into.
   */
  readonly loading?: { readonly dir: string; readonly slot: string };
  readonly bootId: string;
  /** `starting` is written before any process starts. It marks a companion that no acknowledgement has reported yet. */
  readonly phase: 'starting' | 'running' | 'done';
  /** The process of `cmd_start`; null before it exists. */
  readonly process: ProcessKey | null;
  /** Folder of its control group, '' for none. */
  readonly cgroup: string;
}

const NAME = 'record.json';

/**
 * Replaces a record atomically. Does not sync it to disk, since the process does not survive a power failure either.
 */
export async function writeRecord(folder: string, record: CompanionRecord): Promise<void> {
  const path = join(folder, NAME);
  await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** Removes the record. The next agent then removes the rest of the folder. */
export async function removeRecord(folder: string): Promise<void> {
  await rm(join(folder, NAME), { force: true });
}

/** @returns undefined for a record that is absent or not of this form */
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
