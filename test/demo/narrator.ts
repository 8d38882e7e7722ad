import type { Style } from '../../src/ctl/style.js';
import { drawTitle } from './drawing.js';

/** Tells the story as it goes on, and ends it where a claim does not hold or where it is broken off. */
export class Narrator {
  readonly #out: (text: string) => void;
  readonly style: Style;
  #acts = 0;
  #brokenOff: Error | undefined;

  constructor(out: (text: string) => void, style: Style) {
    this.#out = out;
    this.style = style;
  }

  /** Whoever tells on is stopped by this error. */
  breakOff(reason: Error): void {
    this.#brokenOff = reason;
  }

  act(title: string): void {
    this.#acts += 1;
    this.lines(['', ...drawTitle(this.#acts, title, this.style), '']);
  }

  /** What happens, in words. */
  say(...sentences: readonly string[]): void {
    this.lines(sentences);
  }

  /** A command that was run just as it stands there. */
  command(line: string): void {
    this.lines([`${this.style('dim', '$')} ${this.style('cyan', line)}`]);
  }

  lines(lines: readonly string[]): void {
    if (this.#brokenOff !== undefined) throw this.#brokenOff;
    this.#out(lines.map((line) => (line === '' ? '\n' : `  ${line}\n`)).join(''));
  }

  /**
   * Something that was found to be so.
   *
   * @param found what is there instead, for the one who has to find out why
   * @throws Error when it is not so
   */
  claim(holds: boolean, sentence: string, found?: unknown): void {
    if (!holds) {
      const instead = found === undefined ? '' : `; found ${typeof found === 'string' ? found : JSON.stringify(found)}`;
      throw new Error(`This is not so: ${sentence}${instead}`);
    }
    this.lines([`${this.style('green', '✔')} ${sentence}`]);
  }
}
