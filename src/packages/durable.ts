import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Syncs a file's content, or the names in a folder, to disk: fsync(2) of a file does not cover its name. */
export async function sync(path: string): Promise<void> {
  const opened = await open(path, 'r');
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

/**
 * Replaces a file atomically and durably.
 *
 * @param draft a path on the same file system to write to first
 */
export async function replaceFile(path: string, text: string, draft: string): Promise<void> {
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
  await sync(dirname(path));
}
