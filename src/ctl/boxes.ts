import type { Style } from './style.js';

/** A program as a box in a drawing. */
export interface Box {
  readonly title: string;
  /** Inside the box: `prog 12`. */
  readonly text: string;
  /** In the lower edge: `slot 21`; '' for a program without a slot. */
  readonly foot: string;
  readonly tone: 'plain' | 'new' | 'wrong';
  /** How packets get here from the previous box: through its slot, by the order of links, or not at all. */
  readonly reachedBy: 'slot' | 'order' | undefined;
}

const COLOURS = { plain: undefined, new: 'yellow', wrong: 'red' } as const satisfies Record<Box['tone'], unknown>;

const ARROWS = { slot: ' ─▶ ', order: ' ┄▶ ' } as const;
const APART = '    ';
/** Room for the arrow at the end of a row. */
const ROOM_FOR_ARROW = 3;

/**
 * Draws a box for each program and an arrow for each slot that names the next program. A dashed arrow means that the
 * kernel continues by itself with the next link. Uses as many rows as needed:
 *
 *     ╭ xdp-root ╮    ╭ port-count 1.0 ╮
 *     │ prog 12  │ ─▶ │ prog 14        │
 *     ╰ slot 21 ─╯    ╰ slot 25 ───────╯
 *
 * @param width maximum columns of a row; a box that is wider than this gets a row of its own
 */
export function drawBoxes(boxes: readonly Box[], style: Style, width: number): string[] {
  return rowsOf(boxes, width).flatMap((row, index, rows) => drawRow(row, rows[index + 1]?.[0]?.reachedBy, style));
}

function rowsOf(boxes: readonly Box[], width: number): Box[][] {
  const rows: Box[][] = [];
  let used = 0;
  for (const box of boxes) {
    const row = rows.at(-1);
    const more = APART.length + outerWidth(box);
    if (row !== undefined && used + more + ROOM_FOR_ARROW <= width) {
      row.push(box);
      used += more;
    } else {
      rows.push([box]);
      used = outerWidth(box);
    }
  }
  return rows;
}

function drawRow(row: readonly Box[], goesOn: Box['reachedBy'], style: Style): string[] {
  const drawn = row.map((box) => drawBox(box, style));
  return [0, 1, 2].map((line) => {
    const joined = row.map((box, index) => {
      const joint = line === 1 ? arrow(box.reachedBy) : APART;
      return `${index === 0 ? '' : joint}${drawn[index]?.[line]}`;
    });
    return `${joined.join('')}${line === 1 ? arrow(goesOn) : ''}`.trimEnd();
  });
}

function drawBox(box: Box, style: Style): readonly string[] {
  const { title, text, tone } = box;
  const foot = footOf(box);
  const width = innerWidth(box);
  const colour = COLOURS[tone];
  const frame = (line: string) => style(colour ?? 'dim', line);
  return [
    `${frame('╭')} ${style(colour === undefined ? 'bold' : [colour, 'bold'], title)} ${frame(`${'─'.repeat(width - title.length)}╮`)}`,
    `${frame('│')} ${tone === 'wrong' ? style('red', text.padEnd(width)) : text.padEnd(width)} ${frame('│')}`,
    frame(`╰${foot}${'─'.repeat(width + 2 - foot.length)}╯`),
  ];
}

function arrow(way: Box['reachedBy']): string {
  return way === undefined ? APART : ARROWS[way];
}

function innerWidth(box: Box): number {
  return Math.max(box.title.length, box.text.length, footOf(box).length - 2);
}

/** The width including both edges and one blank next to each. */
function outerWidth(box: Box): number {
  return innerWidth(box) + 4;
}

function footOf({ foot }: Box): string {
  return foot === '' ? '' : ` ${foot} `;
}
