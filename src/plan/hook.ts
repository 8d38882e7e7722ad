import type { Hook } from '../domain/hook.js';
import { liveStrands, looseStrands, type ObservedHook, programsOf, type Strand } from '../domain/observed.js';
import { linkPin, programPin } from '../domain/pins.js';
import type { ProgramOutcome } from '../domain/plan.js';
import type { Program } from '../domain/program.js';
import type { AttachStep, Place, Step } from '../domain/step.js';
import type { HookInput, PlanContext } from './context.js';
import { planMoves } from './donors.js';
import { checkKeptMonitors, planMapChanges } from './maps.js';
import { outcomesOf } from './outcome.js';
import { planSegment, type SegmentPlan } from './segment.js';
import { isOrdered, pairUp, type Segment, segmentsOf } from './segments.js';
import { staleLoads } from './staging.js';

/** The part of a plan that concerns one hook. */
export interface HookPlan {
  readonly hook: Hook;
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  /** Dead links to clear away; packets do not notice. */
  readonly detach: readonly Step[];
  readonly discard: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  readonly links: LinkCounts;
}

/** What becomes of the links at a hook: one as a rule, more where programs without slot have successors. */
export interface LinkCounts {
  readonly kept: number;
  /** Of those that are kept, how many let packets in elsewhere or on another way. */
  readonly changed: number;
  readonly added: number;
  readonly removed: number;
}

/**
 * From the chain that stands at a hook to the one that is wanted there. The chain is taken from links and slots as they are, so that it
 * does not matter how the present state came about: a former command, a crash in the middle of one, or somebody's hand.
 *
 * Each link that stays is changed by one atomic write. Where links come or go besides, what is new comes first and what is old goes
 * last: a packet in between may pass a program twice, but misses none that is in both chains. No packet is still among the links of
 * before when an attachment or a detachment is done, since the kernel waits for it (tcx_entry_sync in include/net/tcx.h).
 */
export function planHook(input: HookInput, context: PlanContext): HookPlan {
  const { observed, before } = input;
  const { hook } = observed;
  const running = input.wanted.filter((program) => program.enabled);
  const wanted = wantedSegments(hook, running, context);
  const [live, loose] = [liveStrands(observed), usableLoose(observed)];
  const standing = programsOf([...live, ...loose]);

  // A filter runs behind all links, and so cannot be followed by one.
  const keepable = live.filter(({ attachment }) => wanted.length <= 1 || isOrdered(attachment));
  const strands = pairUp(wanted, keepable, loose, firstLinkOf(hook, wanted[0], context));
  const stale = input.loaders === undefined ? new Set<string>() : staleLoads(observed, running, input.loaders);
  const ground = { input, strands: [...live, ...loose], standing, running, stale };
  const segments = wanted.map((segment, at) => planSegment(segment, strands[at], at === 0, ground, context));

  const members = segments.flatMap((segment) => segment.members);
  checkKeptMonitors(members, before);
  const maps = planMapChanges(members, before);
  const leaving = live.filter((strand) => !strands.includes(strand));
  const attaches = attachSteps(hook, segments, live);
  const [kept, added] = [
    segments.filter((segment) => segment.live !== undefined),
    segments.filter((segment) => segment.live === undefined),
  ];
  return {
    hook,
    prepare: segments.flatMap(({ prepare }) => prepare),
    commit: [
      ...maps,
      ...added.flatMap(({ flip }) => flip),
      ...attaches,
      ...kept.flatMap(({ flip }) => flip),
      ...planMoves(members, observed.generations),
      ...detachSteps(hook, leaving, linksAfter(attaches, segments, live)),
    ],
    detach: deadLinks(observed, segments),
    discard: discardAllBut(observed, new Set(segments.flatMap(({ dirs }) => dirs))),
    outcomes: outcomesOf({ ...input, hook, standing, members, changedMaps: new Set(maps.map((step) => step.map)) }),
    links: {
      kept: kept.length,
      changed: kept.filter(({ flip }) => flip.length > 0).length,
      added: added.length,
      removed: leaving.length,
    },
  };
}

/** With chaining off there is one program, which is attached itself. */
function wantedSegments(hook: Hook, running: readonly Program[], { chaining, roots }: PlanContext): Segment[] {
  if (chaining) return segmentsOf(running, roots[hook.direction]);
  return running.slice(0, 1).map((program) => ({ root: undefined, programs: [program] }));
}

function firstLinkOf(hook: Hook, first: Segment | undefined, { bpffs }: PlanContext): string {
  const named = first?.root ?? first?.programs[0];
  return named === undefined ? '' : linkPin(bpffs, { hook, name: named.name, version: named.version });
}

/** While packets pass others, a strand without a link is what a crash has left, and not what was cut off. */
function usableLoose(observed: ObservedHook): Strand[] {
  const isLive = liveStrands(observed).length > 0;
  return looseStrands(observed).filter(({ attachment }) => !isLive || attachment !== undefined);
}

/** Each right behind the segment before it; the first before whatever of ours is there. */
function attachSteps(hook: Hook, segments: readonly SegmentPlan[], live: readonly Strand[]): AttachStep[] {
  return segments.flatMap(({ entry, live: kept }, at): AttachStep[] => {
    if (kept !== undefined) return [];
    const former = segments[at - 1];
    const next = live.find(({ attachment }) => isOrdered(attachment))?.attachment?.linkPin;
    const ahead: Place | null = next === undefined ? null : { side: 'before', link: next };
    const place: Place | null =
      former === undefined ? ahead : { side: 'behind', link: former.live?.linkPin ?? former.entry.link };
    return [{ op: 'attach', hook, program: programPin(entry.dir), link: entry.link, place }];
  });
}

/** Pins of the links at a hook, in their order, when all that is new is in place and nothing has been taken away yet. */
function linksAfter(
  attaches: readonly AttachStep[],
  segments: readonly SegmentPlan[],
  live: readonly Strand[],
): string[] {
  const links = live.flatMap(({ attachment }) => (isOrdered(attachment) ? [attachment!.linkPin] : []));
  for (const { link, place } of attaches) {
    const at = place === null ? links.length : links.indexOf(place.link) + (place.side === 'behind' ? 1 : 0);
    links.splice(at, 0, link);
  }
  const moved = new Map(segments.map((segment) => [segment.live?.linkPin, segment.entry.link]));
  return links.map((link) => moved.get(link) ?? link);
}

/** From the last to the first. */
function detachSteps(hook: Hook, leaving: readonly Strand[], links: readonly string[]): Step[] {
  const left = [...links];
  return leaving.toReversed().map(({ attachment, programs }): Step => {
    const link = attachment?.linkPin ?? '';
    const at = left.indexOf(link);
    if (at !== -1) left.splice(at, 1);
    return { op: 'detach', hook, program: programPin(programs[0]?.dir ?? ''), link, place: placeAmong(left, at) };
  });
}

function placeAmong(links: readonly string[], at: number): Place | null {
  const [former, next] = [links[at - 1], links[at]];
  if (former !== undefined) return { side: 'behind', link: former };
  return next === undefined ? null : { side: 'before', link: next };
}

/** A dead link at a place where one is made is replaced by that, which a filter does not do. */
function deadLinks({ hook, attachments }: ObservedHook, segments: readonly SegmentPlan[]): Step[] {
  const made = new Set(segments.filter(({ live }) => isOrdered(live)).map(({ entry }) => entry.link));
  return attachments
    .filter(({ attached, linkPin: link }) => !attached && !made.has(link))
    .map(({ linkPin: link }) => ({ op: 'detach', hook, program: '', link, place: null }));
}

function discardAllBut(observed: ObservedHook, kept: ReadonlySet<string>): Step[] {
  return observed.generations
    .filter((generation) => !kept.has(generation.dir))
    .map((generation) => ({ op: 'discard', dir: generation.dir }));
}
