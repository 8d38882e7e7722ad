import { execFile } from 'node:child_process';
import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { LineSplitter } from './lines.js';

export interface OutputOptions {
  /** The file that the companion appends to. */
  readonly path: string;
  readonly onLine: (line: string) => void;
  /** Told how many bytes were passed over because they came faster than they can be logged. */
  readonly onDropped: (bytes: number) => void;
}

/** A look is taken at most this often, and takes at most that much: what a companion may write to the log in a second is bounded. */
const INTERVAL_MS = 100;
const CHUNK = 256 * 1024;
/** What waits beyond that is passed over. */
const MAX_BACKLOG = 4 * 1024 * 1024;
/** Space of the file is given back in pieces of that size. */
const RELEASE = 1024 * 1024;

const run = promisify(execFile);

/**
 * Follows a file that a companion appends its output to. A file, and not a pipe, since a companion must go on when the agent dies: a
 * pipe without a reader would end it, and one that nobody empties would stop it. How far the file was read is noted beside it, so that the
 * agent's successor goes on there.
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
    // Made anew if somebody has removed it.
    this.#file = await open(path, 'a+', 0o600);
    this.#watcher = watch(path, { persistent: false }, () => this.#soon());
    // Without inotify left, what is said shows at the end.
    this.#watcher.on('error', () => undefined);
    this.#soon();
  }

  /** Tells what was written until now. */
  async drain(): Promise<void> {
    while (await this.#once());
  }

  /** @param final whether nothing will be written any more, so that what has no line break is a line as well */
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

  /** One look at a time. @returns whether there is more to read */
  #once(): Promise<boolean> {
    const pass = this.#pass.then(() => this.#read());
    this.#pass = pass.catch(() => undefined);
    return pass;
  }

  async #read(): Promise<boolean> {
    const file = this.#file;
    if (file === undefined) return false;
    const { size } = await file.stat();
    // Somebody has emptied the file, as log rotation does.
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

  /** On a full disk it is not noted: a successor then tells some lines twice. */
  async #note(): Promise<void> {
    this.#noted = this.#position;
    await writeFile(`${this.#options.path}.read`, String(this.#position)).catch(() => undefined);
  }

  /** Gives the space of what was read back, while the companion writes on. Cutting the file could cut off what it writes meanwhile. */
  async #release(): Promise<void> {
    const { path } = this.#options;
    const length = this.#position - (this.#position % RELEASE);
    this.#released = length;
    try {
      await run('fallocate', ['--punch-hole', '--offset', '0', '--length', String(length), path]);
    } catch {
      // Not every file system can; then it is better to lose a line than to fill the disk.
      await truncate(path, 0);
      this.#position = 0;
      this.#released = 0;
    }
  }
}
