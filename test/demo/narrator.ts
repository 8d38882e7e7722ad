import type { Style } from '../../src/ctl/style.js';
import { drawTitle } from './drawing.js';

/** Prints the story. Ends it with an error if a claim does not hold, or after an interrupt. */
export class Narrator {
  readonly #out: (text: string) => void;
  readonly style: Style;
  #acts = 0;
  #brokenOff: Error | undefined;

  constructor(out: (text: string) => void, style: Style) {
    this.#out = out;
    this.style = style;
  }

  /** After this, every further output throws the given error. */
  breakOff(reason: Error): void {
    this.#brokenOff = reason;
  }

  act(title: string): void {
    this.#acts += 1;
    this.lines(['', ...drawTitle(this.#acts, title, this.style), '']);
  }

  /** Prints sentences. */
  say(...sentences: readonly string[]): void {
    this.lines(sentences);
  }

  /** Prints a command that is run exactly as printed. */
  command(line: string): void {
    this.lines([`${this.style('dim', '$')} ${this.style('cyan', line)}`]);
  }

  lines(lines: readonly string[]): void {
    if (this.#brokenOff !== undefined) throw this.#brokenOff;
    this.#out(lines.map((line) => (line === '' ? '\n' : `  ${line}\n`)).join(''));
  }

  /**
   * Prints a claim that holds.
   *
   * @param found what was found, for the error
   * @throws Error if the claim does not hold
   */
  claim(holds: boolean, sentence: string, found?: unknown): void {
    if (!holds) {
      const instead = found === undefined ? '' : `; found ${typeof found === 'string' ? found : JSON.stringify(found)}`;
      throw new Error(`This claim does not hold: ${sentence}${instead}`);
    }
    this.lines([`${this.style('green', '✔')} ${sentence}`]);
  }
}
