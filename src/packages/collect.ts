import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeepLimits } from './limits.js';
import { type PackageRecord, readRecord } from './record.js';

interface Kept {
  readonly path: string;
  readonly record: PackageRecord;
  readonly inUse: boolean;
  /** Milliseconds since the epoch. */
  readonly usedAt: number;
}

/**
 * Removes from a cache's folder (see PackageCache) what is unused and exceeds the limits, and every folder that no
 * record names.
 *
 * @param inUse keys of records
 */
export async function collectUnused(dir: string, inUse: ReadonlySet<string>, limits: KeepLimits): Promise<void> {
  const records: Kept[] = [];
  for (const name of await readdir(join(dir, 'refs'))) {
    const path = join(dir, 'refs', name);
    const record = await readRecord(path);
    const used = inUse.has(name.replace(/\.json$/, ''));
    if (record !== undefined) records.push({ path, record, inUse: used, usedAt: (await stat(path)).mtimeMs });
    else if (!used) await rm(path, { recursive: true, force: true });
  }
  const kept = new Set(keptRecords(records, limits, Date.now()));
  for (const one of records) {
    if (!kept.has(one)) await rm(one.path, { force: true });
  }
  const digests = new Set([...kept].map(({ record }) => record.digest));
  for (const digest of await readdir(join(dir, 'sha256'))) {
    if (!digests.has(digest)) await rm(join(dir, 'sha256', digest), { recursive: true, force: true });
  }
}

/**
 * The records to keep: all that are in use, then the most recently used ones within the limits of time and size. An
 * artifact counts once, however many records refer to it.
 */
function keptRecords(records: readonly Kept[], { unusedMs, maxBytes }: KeepLimits, now: number): Kept[] {
  const byUse = records.toSorted((a, b) => Number(b.inUse) - Number(a.inUse) || b.usedAt - a.usedAt);
  const digests = new Set<string>();
  let bytes = 0;
  return byUse.filter(({ record, inUse, usedAt }) => {
    const more = digests.has(record.digest) ? 0 : record.files.reduce((sum, { size }) => sum + size, 0);
    if (!inUse && (now - usedAt >= unusedMs || bytes + more > maxBytes)) return false;
    digests.add(record.digest);
    bytes += more;
    return true;
  });
}
