import type { Style } from './style.js';

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly align?: 'left' | 'right';
}

/** Aligned columns with two blanks between them, without blanks at the ends of lines. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], style: Style): string[] {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) =>
        columns[index]?.align === 'right' ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [style('dim', line(columns.map(({ title }) => title))), ...rows.map(line)];
}

export function indent(lines: readonly string[], width = 2): string[] {
  return lines.map((line) => `${' '.repeat(width)}${line}`);
}
