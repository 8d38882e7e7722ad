import { dirname, join } from 'node:path';
import type { FileOps } from './file-ops.js';

/*
 * The instance id, in a separate file next to the journal. It distinguishes a restarted agent from a second agent with
 * the same name. An agent that loses it with its journal has to wait until its own old registration expires.
 */

const FILE_NAME = 'instance-id';
/** The format of `randomUUID` in node:crypto, RFC 9562. */
const FORM = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The stored id; undefined if there is none, or it is damaged. */
export async function keptInstanceId(dir: string, files: FileOps): Promise<string | undefined> {
  const id = (await files.read(join(dir, FILE_NAME)))?.toString().trim() ?? '';
  return FORM.test(id) ? id : undefined;
}

/** Stores the id and replaces any other. It is on disk when this returns. Does nothing if the id is already stored. */
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
