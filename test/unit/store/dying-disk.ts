import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FileOps, OpenFile } from '../../../src/store/file-ops.js';

/** Where the machine stops: before the n-th operation (from 0) begins, after it has taken effect, or during a write. */
export interface Death {
  readonly at: number;
  readonly when: 'before' | 'after' | 'within';
  /** For `within`: how many bytes are written. */
  readonly bytes?: number;
  /** For `within`: whether the file has its new length already, with zeros for the missing bytes. */
  readonly zeros?: boolean;
}

export interface Operation {
  readonly name: keyof FileOps | keyof OpenFile;
  /** For a write: its length in bytes. */
  readonly length: number;
  /** Of a file: its path when it was opened. */
  readonly path: string;
}

/** What a disk loses. A killed process loses nothing. A power cut may lose what was not synced, or parts of it. */
export const LOSSES = ['nothing', 'names and content', 'names', 'content'] as const;
export type Loss = (typeof LOSSES)[number];

interface OperationOptions {
  readonly length?: number;
  readonly path?: string;
  readonly isNew?: boolean;
  readonly partly?: (death: Death) => void;
}

interface Inode {
  now: Buffer;
  synced: Buffer;
}

/**
 * A disk in memory. It separates written content from synced content, and it stops for good at a chosen operation. What
 * is left can be written to a real directory. Operations on a new file take a turn of the event loop, so that others come
 * between them.
 */
export class DyingDisk implements FileOps {
  readonly operations: Operation[] = [];
  #death: Death | undefined;
  #names = new Map<string, Inode>();
  #syncedNames = new Map<string, Inode>();

  constructor(death?: Death) {
    this.#death = death;
  }

  /** The process was killed, but the machine still runs: everything that was written exists, synced or not. */
  restart(): void {
    this.#death = undefined;
  }

  async putLeftovers(dir: string, loss: Loss): Promise<void> {
    await mkdir(dir, { recursive: true });
    const names = loss.startsWith('names') ? this.#syncedNames : this.#names;
    for (const [path, { now, synced }] of names) {
      await writeFile(join(dir, basename(path)), loss.endsWith('content') ? synced : now);
    }
  }

  makeDir = (_path: string) => this.#operate('makeDir', () => {});

  exists = (path: string) => this.#operate('exists', () => this.#names.has(path));

  read = (path: string) =>
    this.#operate('read', () => {
      const file = this.#names.get(path);
      return file && Buffer.from(file.now);
    });

  open = (path: string, mode: 'update' | 'create') =>
    this.#operate(
      'open',
      () => {
        const file = this.#names.get(path) ?? { now: Buffer.alloc(0), synced: Buffer.alloc(0) };
        if (mode === 'create') file.now = Buffer.alloc(0);
        this.#names.set(path, file);
        return this.#opened(file, path, mode === 'create');
      },
      { path },
    );

  link = (existing: string, path: string) =>
    this.#operate('link', () => this.#names.set(path, this.#inode(existing))).then(() => {});

  rename = (from: string, to: string) =>
    this.#operate('rename', () => {
      this.#names.set(to, this.#inode(from));
      this.#names.delete(from);
    });

  remove = (path: string) => this.#operate('remove', () => this.#names.delete(path)).then(() => {});

  syncDir = (path: string) =>
    this.#operate('syncDir', () => {
      const elsewhere = [...this.#syncedNames].filter(([name]) => dirname(name) !== path);
      const here = [...this.#names].filter(([name]) => dirname(name) === path);
      this.#syncedNames = new Map([...elsewhere, ...here]);
    });

  #opened(file: Inode, path: string, isNew: boolean): OpenFile {
    const put = (bytes: Uint8Array, offset: number) => {
      const grown = Buffer.alloc(Math.max(file.now.length, offset + bytes.length));
      file.now.copy(grown);
      grown.set(bytes, offset);
      file.now = grown;
    };
    const of = { path, isNew };
    return {
      write: (bytes, offset) =>
        this.#operate('write', () => put(bytes, offset), {
          ...of,
          length: bytes.length,
          partly: ({ bytes: through = 0, zeros }) => {
            if (zeros) put(Buffer.alloc(bytes.length), offset);
            put(bytes.subarray(0, through), offset);
          },
        }),
      sync: () =>
        this.#operate(
          'sync',
          () => {
            file.synced = Buffer.from(file.now);
          },
          of,
        ),
      truncate: (length) =>
        this.#operate(
          'truncate',
          () => {
            file.now = file.now.subarray(0, length);
          },
          of,
        ),
      close: () => this.#operate('close', () => {}, of),
    };
  }

  async #operate<T>(
    name: Operation['name'],
    effect: () => T,
    { length = 0, path = '', isNew = false, partly = () => {} }: OperationOptions = {},
  ): Promise<T> {
    if (isNew) await nextTurn();
    const at = this.operations.push({ name, length, path }) - 1;
    const death = this.#death;
    if (death === undefined || at < death.at) return effect();
    if (at === death.at && death.when === 'after') effect();
    if (at === death.at && death.when === 'within') partly(death);
    throw new Error('the machine has stopped');
  }

  #inode(path: string): Inode {
    const file = this.#names.get(path);
    if (file === undefined) throw new Error(`no such file: ${path}`);
    return file;
  }
}
