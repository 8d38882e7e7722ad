import type { Acknowledgement } from './ack.js';

/** What an acknowledgement keeps at the first cut. Each further cut halves it. */
const FIRST_CUT: Cut = { text: 2_000, errors: 50, programs: 500 };
/** Texts are not cut shorter than this: ids, times and names stay whole, and messages still say something. */
const SHORTEST_TEXT = 128;

interface Cut {
  /** Characters of each text. */
  readonly text: number;
  readonly errors: number;
  readonly programs: number;
}

/**
 * An acknowledgement that the server accepts. Lists and texts are cut until it has at most `maxBytes` as JSON, and its
 * message says so. The result of the command always stays, so the acknowledgement may still be larger than `maxBytes`.
 */
export function shortened(ack: Acknowledgement, maxBytes: number): Acknowledgement {
  if (sizeOf(ack) <= maxBytes) return ack;
  for (let cut = FIRST_CUT; ; cut = halved(cut)) {
    const shorter = cutTo(ack, cut);
    if (sizeOf(shorter) <= maxBytes || isShortest(cut)) return shorter;
  }
}

function sizeOf(ack: Acknowledgement): number {
  return Buffer.byteLength(JSON.stringify(ack));
}

function cutTo(ack: Acknowledgement, { text, errors, programs }: Cut): Acknowledgement {
  const kept = { errors: ack.errors.slice(0, errors), programs: ack.programs.slice(0, programs) };
  const cut = JSON.parse(JSON.stringify({ ...ack, ...kept }), (_key, value: unknown) =>
    typeof value === 'string' && value.length > text ? `${value.slice(0, text)}…` : value,
  ) as Acknowledgement;
  const rest = `${kept.errors.length} of ${ack.errors.length} errors and ${kept.programs.length} of ${ack.programs.length} programs`;
  const note = `(shortened to what the server allows: ${rest})`;
  return { ...cut, id: ack.id, message: cut.message === undefined ? note : `${cut.message} ${note}` };
}

function halved({ text, errors, programs }: Cut): Cut {
  const half = (count: number) => Math.floor(count / 2);
  return { text: Math.max(half(text), SHORTEST_TEXT), errors: half(errors), programs: half(programs) };
}

function isShortest({ text, errors, programs }: Cut): boolean {
  return text === SHORTEST_TEXT && errors === 0 && programs === 0;
}
