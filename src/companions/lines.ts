import { StringDecoder } from 'node:string_decoder';

/** Longer lines are cut, since a program that never ends a line must not fill the memory. In characters. */
const LONGEST_LINE = 4096;

/** Splits a stream of bytes into lines, none longer than {@link LONGEST_LINE}. */
export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';
  /** Whether the current line is too long: its beginning was reported, and the rest is dropped. */
  #cut = false;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.write(Buffer.from(chunk))).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#end(line);
    if (this.#rest.length <= LONGEST_LINE) return;
    if (!this.#cut) this.#tell(this.#rest);
    this.#cut = true;
    this.#rest = '';
  }

  /** Reports the rest as a line, even without a line break. */
  finish(): void {
    const rest = this.#rest + this.#decoder.end();
    this.#rest = '';
    if (rest !== '') this.#end(rest);
  }

  #end(line: string): void {
    if (!this.#cut) this.#tell(line.replace(/\r$/, ''));
    this.#cut = false;
  }

  #tell(line: string): void {
    this.#onLine(line.length > LONGEST_LINE ? `${line.slice(0, LONGEST_LINE)}…` : line);
  }
}
