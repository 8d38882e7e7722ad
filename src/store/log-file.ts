import { dirname } from 'node:path';
import { machineFaultOf } from '../errors.js';
import type { FileOps, OpenFile } from './file-ops.js';
import { decodeLines, encodeLine, type Lines } from './line.js';

/** A file that is about to take the place of the present one. */
interface Replacement {
  /** The lines that were appended since it began. */
  readonly since: Buffer[];
  /** Ends it, once. Afterwards there is one file, the old one or the new one. */
  takeOver(): Promise<void>;
}

/**
 * A file of lines. It grows by one line and one fsync at a time, and is sometimes replaced as a whole. Calls must not
 * overlap, except where a replacement says so.
 */
export class LogFile {
  readonly #path: string;
  readonly #files: FileOps;
  #file: OpenFile | undefined;
  /** Bytes of complete lines; all of them are on disk. */
  #length = 0;
  #headLength = 0;
  /** Set after a failure: must be repaired before the next write. */
  #tailUnknown = false;
  #nameUnsynced = false;
  /** Undefined while there is none. */
  #replacement: Replacement | undefined;

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

  /** The content of the file; undefined if there is none. Removes what a crash during {@link LogFile.replace} left. */
  async read(): Promise<Lines | undefined> {
    await this.#files.remove(this.#temporary);
    const bytes = await this.#files.read(this.#path);
    return bytes && decodeLines(bytes);
  }

  /**
   * Opens the file for appending after the good lines that {@link LogFile.read} has found. Cuts off an incomplete line.
   */
  async resume({ headLength, length, torn }: Lines): Promise<void> {
    this.#file = await this.#files.open(this.#path, 'update');
    this.#headLength = headLength;
    this.#length = length;
    this.#tailUnknown = torn;
    // An earlier process may have died after renaming the file and before the new name was on disk.
    this.#nameUnsynced = true;
    await this.#settle();
  }

  /**
   * Appends a line. It is on disk when this returns. If this throws, the line does not count, and the next call removes
   * it.
   */
  async append(value: unknown): Promise<void> {
    const line = encodeLine(value);
    const replacement = this.#replacement;
    try {
      await this.#add(line);
    } catch (error) {
      // The new file takes room, and one of the two goes when the replacement ends.
      if (replacement === undefined || machineFaultOf(error)?.code !== 'DISK_FULL') throw error;
      await replacement.takeOver().catch(() => {});
      await this.#add(line);
    }
    this.#replacement?.since.push(line);
  }

  async #add(line: Buffer): Promise<void> {
    await this.#settle();
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

  /**
   * Replaces the file by one that begins with a line and continues with what is appended until it takes its place. After
   * a crash at any time, the name refers to the old or the new file.
   *
   * Appends may overlap with it, except with `takeOver`: its duration does not depend on the length of the line.
   *
   * @param inTurn calls `takeOver` when no append is under way
   */
  async replace(value: unknown, inTurn = (takeOver: () => Promise<void>) => takeOver()): Promise<void> {
    const head = encodeLine(value);
    const since: Buffer[] = [];
    const prepared = this.#prepare(head);
    let taken: Promise<void> | undefined;
    const takeOver = () => {
      taken ??= prepared.then((file) => this.#takeOver(file, head, since));
      return taken;
    };
    this.#replacement = { since, takeOver };
    try {
      await prepared;
      await inTurn(takeOver);
    } finally {
      this.#replacement = undefined;
    }
  }

  async #prepare(head: Buffer): Promise<OpenFile> {
    const file = await this.#files.open(this.#temporary, 'create');
    try {
      await file.write(head, 0);
      await file.sync();
      return file;
    } catch (error) {
      await this.#abandon(file);
      throw error;
    }
  }

  async #takeOver(file: OpenFile, head: Buffer, since: readonly Buffer[]): Promise<void> {
    const rest = Buffer.concat(since);
    try {
      if (rest.length > 0) {
        await file.write(rest, head.length);
        await file.sync();
      }
      await this.#files.rename(this.#temporary, this.#path);
    } catch (error) {
      await this.#abandon(file);
      throw error;
    }
    const old = this.#file;
    this.#file = file;
    this.#replacement = undefined;
    this.#headLength = head.length;
    this.#length = head.length + rest.length;
    this.#tailUnknown = false;
    this.#nameUnsynced = true;
    await old?.close().catch(() => {});
    await this.#settle();
  }

  async #abandon(file: OpenFile): Promise<void> {
    await file.close().catch(() => {});
    await this.#files.remove(this.#temporary).catch(() => {});
  }

  /** Gives the file a second name, under which it is kept after it is replaced. */
  async keepAs(path: string): Promise<void> {
    await this.#files.link(this.#path, path);
    await this.#files.syncDir(dirname(path));
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** Repairs before a write: nothing may follow an incomplete line, and the file's name must be on disk. */
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
