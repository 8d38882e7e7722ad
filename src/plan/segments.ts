import type { Attachment, Strand } from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { RootProgram } from './context.js';

/*
 * A TC program without slot cannot name its successor, so that a chain is cut behind each. The first segment hangs behind the root, and
 * every further one at a TCX link of its own right behind the link of the one before: TCX runs them in this order as long as the verdict
 * is TC_ACT_UNSPEC, which it takes for TCX_NEXT (tcx_run in net/core/dev.c).
 */

/** What hangs, or is to hang, at one link: programs that are joined by their slots. */
export interface Segment {
  readonly root: RootProgram | undefined;
  readonly programs: readonly Program[];
}

/** Cuts a chain behind every program without slot; nothing for an empty chain. */
export function segmentsOf(programs: readonly Program[], root: RootProgram): Segment[] {
  const ends = programs.flatMap(({ mapName }, index) =>
    mapName === '' || index === programs.length - 1 ? [index + 1] : [],
  );
  return ends.map((end, index) => ({
    root: index === 0 ? root : undefined,
    programs: programs.slice(ends[index - 1] ?? 0, end),
  }));
}

/**
 * Which strand each segment takes the link of, so that what is there already is changed in place. Links cannot change places, so that
 * those which are kept are in order; of all such choices it is the one that keeps most programs where they are. A segment without
 * a strand gets a link of its own, and a strand without a segment loses its link.
 *
 * @param live in the order in which packets pass them
 * @param loose strands that no packet passes: they may come back at any place
 * @param firstLink where the first segment's link is pinned
 */
export function pairUp(
  segments: readonly Segment[],
  live: readonly Strand[],
  loose: readonly Strand[],
  firstLink: string,
): (Strand | undefined)[] {
  const worth = (at: number, strand: Strand) => worthOf(segments[at]!, strand, at === 0 ? firstLink : undefined);
  const aligned = withoutCrossings(segments, align(segments.length, live, worth));
  const left = [...loose];
  return segments.map((_, at) => {
    if (aligned[at] !== undefined) return aligned[at];
    const best = left.toSorted((a, b) => worth(at, b) - worth(at, a))[0];
    if (best === undefined || worth(at, best) <= ANY_STRAND) return undefined;
    left.splice(left.indexOf(best), 1);
    return best;
  });
}

/** Even a link with nothing of use is better changed than replaced: one step instead of two. */
const ANY_STRAND = 1;
const SHARED_PROGRAM = 100;
/** The root's link has a pin that no other can take. */
const FIRST_LINK = 100_000;

function worthOf({ root, programs }: Segment, strand: Strand, firstLink: string | undefined): number {
  const digests = new Set(programs.map(contentDigest));
  if (root !== undefined) digests.add(root.digest);
  const shared = strand.programs.filter(({ digest }) => digests.has(digest)).length;
  const isFirst = firstLink !== undefined && strand.attachment?.linkPin === firstLink;
  return ANY_STRAND + SHARED_PROGRAM * shared + (isFirst ? FIRST_LINK : 0);
}

/** The most worthy pairs that are in order on both sides: one strand, or none, for each of `count` places. */
function align(
  count: number,
  strands: readonly Strand[],
  worth: (at: number, strand: Strand) => number,
): (Strand | undefined)[] {
  interface Best {
    readonly worth: number;
    readonly chosen: readonly (Strand | undefined)[];
  }
  const none = (length: number): Best => ({ worth: 0, chosen: Array<undefined>(length).fill(undefined) });
  // row[i]: the best for the places so far with the first i strands.
  let row: Best[] = [...strands, undefined].map(() => none(0));
  for (let at = 0; at < count; at++) {
    const next: Best[] = [none(at + 1)];
    for (const [index, strand] of strands.entries()) {
      const before = row[index]!;
      const both = { worth: before.worth + worth(at, strand), chosen: [...before.chosen, strand] };
      const left = { ...row[index + 1]!, chosen: [...row[index + 1]!.chosen, undefined] };
      next.push([next[index]!, left].reduce((best, other) => (other.worth > best.worth ? other : best), both));
    }
    row = next;
  }
  return [...row.at(-1)!.chosen];
}

/**
 * A program that goes over from one kept link to another would be at neither for a moment, whichever is changed first. The link that it
 * comes from or goes to is then made anew instead, before the other is changed; the first one stays.
 */
function withoutCrossings(
  segments: readonly Segment[],
  pairs: readonly (Strand | undefined)[],
): (Strand | undefined)[] {
  const kept = [...pairs];
  const goesOver = (from: Strand | undefined, to: number) =>
    from?.programs.some(({ name }) => segments[to]!.programs.some((program) => program.name === name)) === true;
  for (let at = 1; at < kept.length; at++) {
    const crosses = kept.some(
      (strand, other) => strand !== undefined && other !== at && (goesOver(strand, at) || goesOver(kept[at], other)),
    );
    if (crosses) kept[at] = undefined;
  }
  return kept;
}

/** Whether a strand hangs where TCX orders it. */
export function isOrdered(attachment: Attachment | undefined): boolean {
  return attachment?.kind !== 'clsact';
}
