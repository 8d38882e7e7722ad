import type { Style } from './style.js';

export interface Column {
  readonly title: string;
  /** Numbers are aligned right. */
  readonly align?: 'left' | 'right';
}

/**
 * Aligned columns with two blanks between them and no trailing blanks.
 *
 * @param width if lines would be longer, the last column goes on a line of its own below the others
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: Style,
  width = Number.POSITIVE_INFINITY,
): string[] {
  const cells = [columns.map(({ title }) => title), ...rows];
  const whole = aligned(cells, columns);
  const lines = whole.every((line) => line.length <= width) ? whole.map((line) => [line]) : folded(cells, columns);
  const [head = [], ...others] = lines;
  return [...head.map((line) => style('dim', line)), ...others.flat()];
}

const BENEATH = '     ';

function folded(rows: readonly (readonly string[])[], columns: readonly Column[]): string[][] {
  const last = columns.length - 1;
  const lines = aligned(
    rows.map((row) => row.slice(0, last)),
    columns,
  );
  return rows.map((row, index) => [lines[index] ?? '', ...(row[last] ? [`${BENEATH}${row[last]}`] : [])]);
}

/** Rows with aligned cells. Cells are aligned left unless a column says otherwise. */
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
