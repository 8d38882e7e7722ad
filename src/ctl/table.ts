import type { Style } from './style.js';

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly align?: 'left' | 'right';
}

/** Aligned columns with two blanks between them, without blanks at the ends of lines. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], style: Style): string[] {
  const [head = '', ...lines] = aligned([columns.map(({ title }) => title), ...rows], columns);
  return [style('dim', head), ...lines];
}

/** Rows with their cells beneath each other; all stand left unless a column says otherwise. */
export function aligned(rows: readonly (readonly string[])[], columns: readonly Partial<Column>[] = []): string[] {
  const count = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: count }, (_, index) => Math.max(...rows.map((row) => (row[index] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, index) =>
        columns[index]?.align === 'right' ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}

export function indent(lines: readonly string[], width = 2): string[] {
  return lines.map((line) => `${' '.repeat(width)}${line}`);
}

/** `12,345` */
export function grouped(number: number): string {
  return number.toLocaleString('en-US');
}
