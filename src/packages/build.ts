import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { create } from 'tar';
import { AgentError } from '../errors.js';

/**
 * Writes the content of a folder as a package: a `.tar.gz` whose files lie in one folder, as L3AF's own packages have it. It is
 * reproducible: the same content gives the same bytes, whoever builds it and when. Executable bits are kept, and all else about
 * files is dropped.
 *
 * @param top name of the folder in the archive
 * @throws AgentError ARTIFACT_INVALID for a folder that is none, holds no files, or links or devices
 */
export async function buildArchive(folder: string, top: string, path: string): Promise<void> {
  const stats = new Map<string, Stats>();
  const files = await filesBelow(folder, '', stats);
  if (files.length === 0) throw new AgentError('ARTIFACT_INVALID', `${folder} holds no files to pack`);
  const normal = {
    // Leaves out owners, times of access and the host's own flags.
    portable: true,
    mtime: new Date(0),
    statCache: stats,
  };
  // Without the dot a name that begins with @ would be taken for an archive to copy from.
  const paths = files.map((file) => `./${file}`);
  await create({ ...normal, file: path, cwd: folder, prefix: top, gzip: { level: 9 }, strict: true }, paths);
}

/** Paths of regular files, in the order of their bytes, so that it depends on no locale and no file system. */
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
      const message = `${join(folder, path)} is neither a file nor a folder; packages hold no others`;
      throw new AgentError('ARTIFACT_INVALID', message);
    }
    stat.mode = (stat.mode & 0o111) === 0 ? 0o100644 : 0o100755;
    // A file with two names goes in twice, not as a hard link, which agents refuse.
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
