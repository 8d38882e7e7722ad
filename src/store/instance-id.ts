import { dirname, join } from 'node:path';
import type { FileOps } from './file-ops.js';

/*
 * The instance id in a file of its own beside the journal. It is what tells a restarted agent from a second one of the same name: an
 * agent that lost it with its journal would be kept waiting by its own registration.
 */

const FILE_NAME = 'instance-id';
/** What `randomUUID` of node:crypto gives, RFC 9562. */
const FORM = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The id that was kept; undefined if there is none, or it is damaged. */
export async function keptInstanceId(dir: string, files: FileOps): Promise<string | undefined> {
  const id = (await files.read(join(dir, FILE_NAME)))?.toString().trim() ?? '';
  return FORM.test(id) ? id : undefined;
}

/** Keeps the id, in place of any other; it is on disk when this returns. Nothing happens if it is kept already. */
export async function keepInstanceId(dir: string, id: string, files: FileOps): Promise<void> {
  if ((await keptInstanceId(dir, files)) === id) return;
  const path = join(dir, FILE_NAME);
  const file = await files.open(`${path}.tmp`, 'create');
  try {
    await file.write(Buffer.from(`${id}\n`), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(`${path}.tmp`, path);
  await files.syncDir(dirname(path));
}
