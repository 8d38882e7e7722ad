import type { Style } from '../../src/ctl/style.js';

/* What the demo shows, as lines of text. Everything fits into 100 columns. */

const WIDTH = 96;

export function drawTitle(number: number, title: string, style: Style): string[] {
  const head = `── ${number} `;
  const rule = '─'.repeat(Math.max(2, WIDTH - head.length - title.length - 2));
  return [`${style('dim', head)} ${style('bold', title)} ${style('dim', rule)}`];
}

/** A chain as it is to be drawn. */
export interface DrawnChain {
  /** Where it hangs. */
  readonly title: string;
  /** In the order in which packets pass them; the root first. */
  readonly members: readonly DrawnMember[];
}

export interface DrawnMember {
  readonly title: string;
  readonly programId: number;
  /** Id of the slot's map; undefined for a program without one. */
  readonly slotId: number | undefined;
  /** Drawn so that it is seen at once. */
  readonly highlighted: boolean;
}

/**
 * A box for each program, with its id and its slot's, and an arrow for each slot that names the next:
 *
 *     ╭ xdp-root ╮    ╭ port-count 1.0 ╮
 *     │ prog 12  │ ─▶ │ prog 14        │
 *     ╰ slot 21 ─╯    ╰ slot 25 ───────╯
 */
export function drawChain({ title, members }: DrawnChain, style: Style): string[] {
  const boxes = members.map((member) => drawBox(member, style));
  const joints = ['    ', ' ─▶ ', '    '];
  return [title, ...joints.map((joint, line) => boxes.map((box) => box[line]).join(joint))];
}

function drawBox({ title, programId, slotId, highlighted }: DrawnMember, style: Style): readonly string[] {
  const program = `prog ${programId}`;
  const slot = slotId === undefined ? '' : ` slot ${slotId} `;
  const width = Math.max(title.length, program.length, slot.length - 2);
  const frame = (text: string) => style(highlighted ? 'yellow' : 'dim', text);
  return [
    `${frame('╭')} ${style(highlighted ? ['yellow', 'bold'] : 'bold', title)} ${frame(`${'─'.repeat(width - title.length)}╮`)}`,
    `${frame('│')} ${program.padEnd(width)} ${frame('│')}`,
    frame(`╰${slot}${'─'.repeat(width + 2 - slot.length)}╯`),
  ];
}

/** A table whose rows come one by one: the widths are those of the titles, of which the first stands left. */
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

/** `12,345` */
export function grouped(number: number): string {
  return number.toLocaleString('en-US');
}

/** Names and what they stand for, aligned. */
export function drawFacts(facts: readonly (readonly [name: string, value: string])[], style: Style): string[] {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${style('dim', name.padEnd(width))}   ${value}`);
}

/** Breaks a line that is too long at blanks, and indents what follows a bit further. Escapes for colours count as if they were seen. */
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
