import { dirname } from 'node:path';
import type { FileOps, OpenFile } from './file-ops.js';
import { decodeLines, encodeLine, type Lines } from './line.js';

/**
 * A file of lines that only grows, one line and one fsync at a time, and that is now and then replaced as a whole. Calls must
 * not overlap.
 */
export class LogFile {
  readonly #path: string;
  readonly #files: FileOps;
  #file: OpenFile | undefined;
  /** Bytes of whole lines; all of them are on disk. */
  #length = 0;
  #headLength = 0;
  /** What a failure left behind, to be put right before anything is written again. */
  #tailUnknown = false;
  #nameUnsynced = false;

  constructor(path: string, files: FileOps) {
    this.#path = path;
    this.#files = files;
  }

  /** In bytes. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of the first line. */
  get headLength(): number {
    return this.#headLength;
  }

  /** What is in the file, or undefined if there is none. Clears away what a crash during {@link LogFile.replace} left. */
  async read(): Promise<Lines | undefined> {
    await this.#files.remove(this.#temporary);
    const bytes = await this.#files.read(this.#path);
    return bytes && decodeLines(bytes);
  }

  /** Takes the file up for appending after what {@link LogFile.read} found good; a torn line is cut off. */
  async resume({ headLength, length, torn }: Lines): Promise<void> {
    this.#file = await this.#files.open(this.#path, 'update');
    this.#headLength = headLength;
    this.#length = length;
    this.#tailUnknown = torn;
    // An earlier process may have renamed the file and died before that name was on disk.
    this.#nameUnsynced = true;
    await this.#settle();
  }

  /** The line is on disk when this returns. When it throws, the line counts as never written, and the next call sees to that. */
  async append(value: unknown): Promise<void> {
    await this.#settle();
    const line = encodeLine(value);
    try {
      await this.#opened.write(line, this.#length);
      await this.#opened.sync();
    } catch (error) {
      this.#tailUnknown = true;
      await this.#settle().catch(() => {});
      throw error;
    }
    this.#length += line.length;
  }

  /** Puts a file of one line in place of what there is: whenever the machine stops, the name stands for the old file or the new. */
  async replace(value: unknown): Promise<void> {
    const line = encodeLine(value);
    const file = await this.#files.open(this.#temporary, 'create');
    try {
      await file.write(line, 0);
      await file.sync();
      await this.#files.rename(this.#temporary, this.#path);
    } catch (error) {
      await file.close().catch(() => {});
      await this.#files.remove(this.#temporary).catch(() => {});
      throw error;
    }
    const old = this.#file;
    this.#file = file;
    this.#headLength = line.length;
    this.#length = line.length;
    this.#tailUnknown = false;
    this.#nameUnsynced = true;
    await old?.close().catch(() => {});
    await this.#settle();
  }

  /** Gives the file a second name, under which it stays when it is replaced. */
  async keepAs(path: string): Promise<void> {
    await this.#files.link(this.#path, path);
    await this.#files.syncDir(dirname(path));
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** Nothing may be appended behind half a line, nor to a file whose name the disk may not know yet. */
  async #settle(): Promise<void> {
    if (this.#nameUnsynced) {
      await this.#files.syncDir(dirname(this.#path));
      this.#nameUnsynced = false;
    }
    if (this.#tailUnknown) {
      await this.#opened.truncate(this.#length);
      await this.#opened.sync();
      this.#tailUnknown = false;
    }
  }

  get #opened(): OpenFile {
    if (this.#file === undefined) throw new Error('the log file is not open');
    return this.#file;
  }

  get #temporary(): string {
    return `${this.#path}.tmp`;
  }
}
