import type { Subchain } from '../../domain/observed.js';
import { contentDigest, type Program } from '../../domain/program.js';
import type { RootProgram } from '../context.js';

/*
 * A TC program without slot cannot name its successor, so a chain is cut after each such program. The first segment is
 * attached through the root. Every further segment has a TCX link of its own, right behind the link of the segment
 * before. TCX runs the links in this order while the verdict is TC_ACT_UNSPEC, which it treats as TCX_NEXT (tcx_run in
 * net/core/dev.c).
 */

/** The programs at one link, joined by their slots. */
export interface Segment {
  readonly root: RootProgram | undefined;
  readonly programs: readonly Program[];
}

/** Cuts a chain after every program without slot. An empty chain has no segments. */
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
 * Chooses which subchain's link each segment takes over, so that existing links are changed in place. Links cannot
 * change their order, so the kept links stay in order. Among all such choices, this one keeps the most programs in
 * place. A segment without a subchain gets a link of its own. A subchain without a segment loses its link.
 *
 * @param live in the order in which packets pass them
 * @param loose subchains that no packet passes; they may be attached again at any place
 * @param firstLink pin of the first segment's link
 */
export function pairUp(
  segments: readonly Segment[],
  live: readonly Subchain[],
  loose: readonly Subchain[],
  firstLink: string,
): (Subchain | undefined)[] {
  const worth = (at: number, subchain: Subchain) => worthOf(segments[at]!, subchain, at === 0 ? firstLink : undefined);
  const aligned = withoutCrossings(segments, align(segments.length, live, worth));
  const left = [...loose];
  return segments.map((_, at) => {
    if (aligned[at] !== undefined) return aligned[at];
    const best = left.toSorted((a, b) => worth(at, b) - worth(at, a))[0];
    if (best === undefined || worth(at, best) <= ANY_SUBCHAIN) return undefined;
    left.splice(left.indexOf(best), 1);
    return best;
  });
}

/** Even a link without any useful program is better changed than replaced: one step instead of two. */
const ANY_SUBCHAIN = 1;
const SHARED_PROGRAM = 100;
/** The first segment's link has a pin that no other link can take. */
const FIRST_LINK = 100_000;

function worthOf({ root, programs }: Segment, subchain: Subchain, firstLink: string | undefined): number {
  const digests = new Set(programs.map(contentDigest));
  if (root !== undefined) digests.add(root.digest);
  const shared = subchain.programs.filter(({ digest }) => digests.has(digest)).length;
  const isFirst = firstLink !== undefined && subchain.attachment?.linkPin === firstLink;
  return ANY_SUBCHAIN + SHARED_PROGRAM * shared + (isFirst ? FIRST_LINK : 0);
}

/**
 * The pairs of highest total worth that are in order on both sides: one subchain, or none, for each of `count` places.
 */
function align(
  count: number,
  subchains: readonly Subchain[],
  worth: (at: number, subchain: Subchain) => number,
): (Subchain | undefined)[] {
  interface Best {
    readonly worth: number;
    readonly chosen: readonly (Subchain | undefined)[];
  }
  const none = (length: number): Best => ({ worth: 0, chosen: Array<undefined>(length).fill(undefined) });
  // row[i]: the best for the places so far with the first i subchains.
  let row: Best[] = [...subchains, undefined].map(() => none(0));
  for (let at = 0; at < count; at++) {
    const next: Best[] = [none(at + 1)];
    for (const [index, subchain] of subchains.entries()) {
      const before = row[index]!;
      const both = { worth: before.worth + worth(at, subchain), chosen: [...before.chosen, subchain] };
      const left = { ...row[index + 1]!, chosen: [...row[index + 1]!.chosen, undefined] };
      next.push([next[index]!, left].reduce((best, other) => (other.worth > best.worth ? other : best), both));
    }
    row = next;
  }
  return [...row.at(-1)!.chosen];
}

/**
 * Makes a new link where a program would move from one kept link to another. Such a program would be at neither link
 * for a moment, whichever link is changed first. So one of the two links is replaced by a new one, before the other is
 * changed. The first segment's link always stays.
 */
function withoutCrossings(
  segments: readonly Segment[],
  pairs: readonly (Subchain | undefined)[],
): (Subchain | undefined)[] {
  const kept = [...pairs];
  const goesOver = (from: Subchain | undefined, to: number) =>
    from?.programs.some(({ name }) => segments[to]!.programs.some((program) => program.name === name)) === true;
  for (let at = 1; at < kept.length; at++) {
    const crosses = kept.some(
      (subchain, other) =>
        subchain !== undefined && other !== at && (goesOver(subchain, at) || goesOver(kept[at], other)),
    );
    if (crosses) kept[at] = undefined;
  }
  return kept;
}
