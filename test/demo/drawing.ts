import type { Style } from '../../src/ctl/style.js';
import { grouped } from '../../src/ctl/table.js';

/* The demo's output as lines of text. Everything fits into 100 columns. */

export const WIDTH = 96;

export function drawTitle(number: number, title: string, style: Style): string[] {
  const head = `── ${number} `;
  const rule = '─'.repeat(Math.max(2, WIDTH - head.length - title.length - 2));
  return [`${style('dim', head)} ${style('bold', title)} ${style('dim', rule)}`];
}

/** A table whose rows are added one by one. Columns are as wide as their titles. The first column is aligned left. */
export interface GrowingTable {
  readonly head: string;
  row(cells: readonly (string | number | undefined)[]): string;
}

export function growingTable(titles: readonly string[], style: Style): GrowingTable {
  const line = (cells: readonly string[]) =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(widthOf(index)) : cell.padStart(widthOf(index)))).join('   ');
  const widthOf = (index: number) => Math.max(titles[index]?.length ?? 0, 9);
  return {
    head: style('dim', line(titles)),
    row: (cells) => line(cells.map((cell) => (typeof cell === 'number' ? grouped(cell) : (cell ?? '–')))),
  };
}

/** Names and values, aligned. */
export function drawFacts(facts: readonly (readonly [name: string, value: string])[], style: Style): string[] {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${style('dim', name.padEnd(width))}   ${value}`);
}

/** Breaks a long line at blanks and indents the following lines further. Colour escapes count towards the length. */
export function wrapped(line: string): string[] {
  const indent = line.length - line.trimStart().length;
  const lines: string[] = [];
  let rest = line;
  while (rest.length > WIDTH) {
    const at = rest.lastIndexOf(' ', WIDTH);
    if (at <= indent + 2) break;
    lines.push(rest.slice(0, at));
    rest = ' '.repeat(indent + 2) + rest.slice(at + 1);
  }
  return [...lines, rest];
}
