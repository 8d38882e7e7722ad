import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { create } from 'tar';
import { AgentError } from '../errors.js';

/**
 * Writes the content of a folder as a package: a `.tar.gz` with all files in one top-level folder, like L3AF's own
 * packages. The build is reproducible: the same content always gives the same bytes. Executable bits are kept. All
 * other file attributes are dropped.
 *
 * @param top name of the folder in the archive
 * @throws AgentError ARTIFACT_INVALID if it is not a folder, holds no files, or holds links or devices
 */
export async function buildArchive(folder: string, top: string, path: string): Promise<void> {
  const stats = new Map<string, Stats>();
  const files = await filesBelow(folder, '', stats);
  if (files.length === 0) throw new AgentError('ARTIFACT_INVALID', `${folder} holds no files to pack`);
  const normal = {
    // Leaves out owners, access times and host-specific flags.
    portable: true,
    mtime: new Date(0),
    statCache: stats,
  };
  // Without the dot, tar treats a name that begins with @ as an archive to copy from.
  const paths = files.map((file) => `./${file}`);
  await create({ ...normal, file: path, cwd: folder, prefix: top, gzip: { level: 9 }, strict: true }, paths);
}

/**
 * Paths of regular files, sorted by their bytes, so that the order does not depend on the locale or the file system.
 */
async function filesBelow(folder: string, below: string, stats: Map<string, Stats>): Promise<string[]> {
  const found: string[] = [];
  for (const name of await namesIn(join(folder, below))) {
    const path = join(below, name);
    const stat = await lstat(join(folder, path));
    if (stat.isDirectory()) {
      found.push(...(await filesBelow(folder, path, stats)));
      continue;
    }
    if (!stat.isFile()) {
      const message = `${join(folder, path)} is neither a file nor a folder; a package can hold only those`;
      throw new AgentError('ARTIFACT_INVALID', message);
    }
    stat.mode = (stat.mode & 0o111) === 0 ? 0o100644 : 0o100755;
    // A file with two names is stored twice, not as a hard link, since agents refuse links.
    stat.nlink = 1;
    stats.set(resolve(folder, path), stat);
    found.push(path);
  }
  return found;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted();
  } catch (cause) {
    throw new AgentError('ARTIFACT_INVALID', `${folder} cannot be packed: ${(cause as Error).message}`, { cause });
  }
}
