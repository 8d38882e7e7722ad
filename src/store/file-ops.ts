import { type FileHandle, link, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, relative, sep } from 'node:path';

/** What the journal asks of the file system: few enough that a test can stop the world before, in or after each. */
export interface FileOps {
  /** Makes a directory with its parents; each is on disk when this returns. Nothing happens if it is there. */
  makeDir(path: string): Promise<void>;
  /** The whole file, or undefined if there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Whether there is a file; nothing of it is read. */
  exists(path: string): Promise<boolean>;
  /** `update`: an existing file; `create`: an empty one, in place of any that is there. Both for the owner's eyes only. */
  open(path: string, mode: 'update' | 'create'): Promise<OpenFile>;
  /** A second name for a file; both stay valid. */
  link(existing: string, path: string): Promise<void>;
  /** Atomic: whoever opens `to` finds the old file or the new one. On disk only after {@link FileOps.syncDir}. */
  rename(from: string, to: string): Promise<void>;
  /** Nothing happens if there is no such file. */
  remove(path: string): Promise<void>;
  /** Returns when the names in a directory are on disk. */
  syncDir(path: string): Promise<void>;
}

export interface OpenFile {
  /** All of the bytes, at an offset; after a failure any prefix of them may be in the file. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Returns when content and length are on disk. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export const nodeFileOps: FileOps = {
  async makeDir(path) {
    const outermost = await mkdir(path, { recursive: true, mode: 0o700 });
    if (outermost === undefined) return;
    const depth = relative(dirname(outermost), path).split(sep).length;
    let made = path;
    for (let level = 0; level < depth; level += 1) {
      made = dirname(made);
      await nodeFileOps.syncDir(made);
    }
  },

  async read(path) {
    try {
      return await readFile(path);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  },

  async exists(path) {
    try {
      await stat(path);
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  },

  async open(path, mode) {
    return openFile(await open(path, mode === 'update' ? 'r+' : 'w', 0o600));
  },

  link,
  rename,

  remove(path) {
    return rm(path, { force: true });
  },

  async syncDir(path) {
    const dir = await open(path, 'r');
    try {
      await dir.sync();
    } finally {
      await dir.close();
    }
  },
};

function openFile(handle: FileHandle): OpenFile {
  return {
    async write(bytes, offset) {
      // A disk that fills up takes a part first and only then refuses, so one call is not enough.
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
        done += bytesWritten;
      }
    },
    // fdatasync(2) flushes a changed length too: "a change to the file size would require a metadata flush".
    sync: () => handle.datasync(),
    truncate: (length) => handle.truncate(length),
    close: () => handle.close(),
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
