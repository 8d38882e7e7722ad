import { execFile } from 'node:child_process';
import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { LineSplitter } from './lines.js';

export interface OutputOptions {
  /** The file that the companion appends to. */
  readonly path: string;
  readonly onLine: (line: string) => void;
  /** Called with the number of bytes that were dropped because they came faster than they can be logged. */
  readonly onDropped: (bytes: number) => void;
}

/** Time between two reads, and the size of one read. Together they limit what a companion can log per second. */
const INTERVAL_MS = 100;
const CHUNK = 256 * 1024;
/** Output that waits beyond this size is dropped. */
const MAX_BACKLOG = 4 * 1024 * 1024;
/** The file's disk space is freed in pieces of this size. */
const RELEASE = 1024 * 1024;

const run = promisify(execFile);

/**
 * Follows a file that a companion appends its output to. It is a file and not a pipe because a companion must continue
 * when the agent dies: a pipe without a reader would end it, and a full pipe would block it. The read position is
 * stored next to the file, so that the next agent continues there.
 */
export class Output {
  readonly #options: OutputOptions;
  readonly #splitter: LineSplitter;
  #file: FileHandle | undefined;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pass: Promise<unknown> = Promise.resolve();
  #position = 0;
  #released = 0;
  #noted = 0;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.#splitter = new LineSplitter(options.onLine);
  }

  async open(): Promise<void> {
    const { path } = this.#options;
    this.#position = Number(await readFile(`${path}.read`, 'utf8').catch(() => '0')) || 0;
    this.#noted = this.#position;
    // Creates the file if somebody has removed it.
    this.#file = await open(path, 'a+', 0o600);
    this.#watcher = watch(path, { persistent: false }, () => this.#soon());
    // If no inotify watch is available, the output is logged at the end.
    this.#watcher.on('error', () => undefined);
    this.#soon();
  }

  /** Reports all output that was written until now. */
  async drain(): Promise<void> {
    while (await this.#once());
  }

  /** @param final whether this is the end of the output, so that the rest without a line break is a line too */
  async close(final: boolean): Promise<void> {
    clearTimeout(this.#timer);
    this.#watcher?.close();
    await this.drain();
    if (final) this.#splitter.finish();
    clearTimeout(this.#timer);
    await this.#file?.close();
    this.#file = undefined;
  }

  #soon(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#once().then(
        (more) => more && this.#soon(),
        () => undefined,
      );
    }, INTERVAL_MS).unref();
  }

  /** Reads one piece; calls do not overlap. @returns whether there is more to read */
  #once(): Promise<boolean> {
    const pass = this.#pass.then(() => this.#read());
    this.#pass = pass.catch(() => undefined);
    return pass;
  }

  async #read(): Promise<boolean> {
    const file = this.#file;
    if (file === undefined) return false;
    const { size } = await file.stat();
    // Somebody has truncated the file, for example log rotation.
    if (size < this.#position) [this.#position, this.#released] = [0, 0];
    if (size - this.#position > MAX_BACKLOG) {
      this.#options.onDropped(size - CHUNK - this.#position);
      this.#position = size - CHUNK;
    }
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, this.#position);
    this.#position += bytesRead;
    this.#splitter.push(buffer.subarray(0, bytesRead));
    if (this.#position - this.#released >= RELEASE) await this.#release();
    if (this.#position !== this.#noted) await this.#note();
    return size > this.#position;
  }

  /** Stores the read position. If the disk is full this fails, and the next agent logs some lines twice. */
  async #note(): Promise<void> {
    this.#noted = this.#position;
    await writeFile(`${this.#options.path}.read`, String(this.#position)).catch(() => undefined);
  }

  /**
   * Frees the disk space of what was read. Does not truncate the file, since the companion may write at the same time.
   */
  async #release(): Promise<void> {
    const { path } = this.#options;
    const length = this.#position - (this.#position % RELEASE);
    this.#released = length;
    try {
      await run('fallocate', ['--punch-hole', '--offset', '0', '--length', String(length), path]);
    } catch {
      // Not every file system can punch holes. Then it is better to lose a line than to fill the disk.
      await truncate(path, 0);
      this.#position = 0;
      this.#released = 0;
    }
  }
}
