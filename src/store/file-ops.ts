import { type FileHandle, link, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, relative, sep } from 'node:path';

/**
 * The file system operations that the journal uses. They are few, so that a test can simulate a crash at each of them.
 */
export interface FileOps {
  /** Makes a directory and its parents; all are on disk when this returns. Does nothing if it exists. */
  makeDir(path: string): Promise<void>;
  /** The whole file, or undefined if there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Whether the file exists. Does not read it. */
  exists(path: string): Promise<boolean>;
  /**
   * `update` opens an existing file. `create` makes an empty one and replaces an existing one. Only the owner may read
   * it.
   */
  open(path: string, mode: 'update' | 'create'): Promise<OpenFile>;
  /** Adds a second name (hard link) to a file. */
  link(existing: string, path: string): Promise<void>;
  /** Atomic: whoever opens `to` finds the old file or the new one. On disk only after {@link FileOps.syncDir}. */
  rename(from: string, to: string): Promise<void>;
  /** Does nothing if there is no such file. */
  remove(path: string): Promise<void>;
  /** Syncs the names in a directory to disk. */
  syncDir(path: string): Promise<void>;
}

export interface OpenFile {
  /** Writes all bytes at an offset. After a failure, any prefix of them may be in the file. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Syncs content and length to disk. */
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
      // On a disk that becomes full, a write may first be short and only the next one fails.
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
