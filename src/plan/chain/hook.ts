import type { ChainHook } from '../../domain/hook.js';
import {
  isLink,
  liveSubchains,
  looseSubchains,
  type ObservedHook,
  programsOf,
  type Subchain,
} from '../../domain/observed.js';
import { linkPin, programPin } from '../../domain/pins.js';
import type { Program } from '../../domain/program.js';
import type { ProgramOutcome } from '../../steps/plan.js';
import type { AttachStep, LinkPosition, Step } from '../../steps/step.js';
import { freshPrograms, staleLoads } from '../companions/handover.js';
import type { HookInput, PlanContext } from '../context.js';
import { checkKeptMonitors, hasOtherConstants, planMapChanges, waitingEntries } from '../maps/changes.js';
import { outcomesOf } from '../outcome.js';
import { planMoves } from './donors.js';
import { planSegment, type SegmentPlan } from './segment.js';
import { pairUp, type Segment, segmentsOf } from './segments.js';

/** The part of a plan that concerns one hook. */
export interface HookPlan {
  readonly hook: ChainHook;
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  /** Dead links to remove. Packets do not notice. */
  readonly detach: readonly Step[];
  readonly discard: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  readonly links: LinkCounts;
}

/**
 * How many links at a hook are kept, changed, added and removed. A hook usually has one link. It has more if programs
 * without slot have successors.
 */
export interface LinkCounts {
  readonly kept: number;
  /** How many of the kept links change: their program, their pin, or a slot behind them. */
  readonly changed: number;
  readonly added: number;
  readonly removed: number;
}

/**
 * Plans the change from the chain that stands at a hook to the desired one. The standing chain is read from links and
 * slots. So it does not matter how it came about: by an earlier command, by a crash in the middle of one, or by hand.
 *
 * Each link that stays is changed by one atomic write. If links are also added or removed, the new ones are added first
 * and the old ones are removed last. A packet in between may pass a program twice, but misses none that is in both
 * chains. When an attach or a detach has returned, no packet still uses the former list of links: the kernel waits for
 * that (tcx_entry_sync in include/net/tcx.h).
 */
export function planHook(input: HookInput, context: PlanContext): HookPlan {
  const { observed, before } = input;
  const { hook } = observed;
  const running = input.wanted.filter((program) => program.enabled);
  const wanted = wantedSegments(hook, running, context);
  const [live, loose] = [liveSubchains(observed), usableLoose(observed)];
  const standing = programsOf([...live, ...loose]);

  // A filter runs after all links, so no link can follow it.
  const keepable = live.filter(({ attachment }) => wanted.length <= 1 || isLink(attachment));
  const subchains = pairUp(wanted, keepable, loose, firstLinkOf(hook, wanted[0], context));
  const stale = input.loaders === undefined ? new Set<string>() : staleLoads(observed, running, input.loaders);
  const fresh =
    input.loaders === undefined ? new Set<Program>() : freshPrograms(hook, standing, running, input.loaders);
  const ground = { input, subchains: [...live, ...loose], standing, running, stale, fresh };
  const segments = wanted.map((segment, at) => planSegment(segment, subchains[at], at === 0, ground, context));

  const members = segments.flatMap((segment) => segment.members);
  checkKeptMonitors(members, before);
  const maps = planMapChanges(members, before, input.ground);
  const leaving = live.filter((subchain) => !subchains.includes(subchain));
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
      ...planMoves(members, observed.loadedPrograms),
      ...detachSteps(hook, leaving, linksAfter(attaches, segments, live)),
    ],
    detach: deadLinks(observed, segments),
    discard: discardAllBut(observed, new Set(segments.flatMap(({ dirs }) => dirs))),
    outcomes: outcomesOf({
      ...input,
      hook,
      standing,
      members,
      changedMaps: new Set(maps.map((step) => step.map)),
      renewed: new Set(running.filter((program) => fresh.has(program) || hasOtherConstants(program, standing, input))),
      waiting: waitingEntries(members, input.ground),
    }),
    links: {
      kept: kept.length,
      changed: kept.filter(({ flip }) => flip.length > 0).length,
      added: added.length,
      removed: leaving.length,
    },
  };
}

/** With chaining off there is one program, and it is attached directly. */
function wantedSegments(hook: ChainHook, running: readonly Program[], { chaining, roots }: PlanContext): Segment[] {
  if (chaining) return segmentsOf(running, roots[hook.direction]);
  return running.slice(0, 1).map((program) => ({ root: undefined, programs: [program] }));
}

function firstLinkOf(hook: ChainHook, first: Segment | undefined, { bpffs }: PlanContext): string {
  const named = first?.root ?? first?.programs[0];
  return named === undefined ? '' : linkPin(bpffs, { hook, name: named.name, version: named.version });
}

/**
 * If packets pass other subchains, a subchain without a link was left by a crash. It was not cut off from the chain.
 */
function usableLoose(observed: ObservedHook): Subchain[] {
  const isLive = liveSubchains(observed).length > 0;
  return looseSubchains(observed).filter(({ attachment }) => !isLive || attachment !== undefined);
}

/** Attaches each segment right behind the one before it, and the first one before our first link. */
function attachSteps(hook: ChainHook, segments: readonly SegmentPlan[], live: readonly Subchain[]): AttachStep[] {
  return segments.flatMap(({ entry, live: kept }, at): AttachStep[] => {
    if (kept !== undefined) return [];
    const former = segments[at - 1];
    const next = live.find(({ attachment }) => isLink(attachment))?.attachment?.linkPin;
    const ahead: LinkPosition | null = next === undefined ? null : { side: 'before', link: next };
    const place: LinkPosition | null =
      former === undefined ? ahead : { side: 'behind', link: former.live?.linkPin ?? former.entry.link };
    return [{ op: 'attach', hook, program: programPin(entry.dir), link: entry.link, place }];
  });
}

/** Pins of the links at a hook, in order, after everything new is in place and before anything is removed. */
function linksAfter(
  attaches: readonly AttachStep[],
  segments: readonly SegmentPlan[],
  live: readonly Subchain[],
): string[] {
  const links = live.flatMap(({ attachment }) => (isLink(attachment) ? [attachment!.linkPin] : []));
  for (const { link, place } of attaches) {
    const at = place === null ? links.length : links.indexOf(place.link) + (place.side === 'behind' ? 1 : 0);
    links.splice(at, 0, link);
  }
  const moved = new Map(segments.map((segment) => [segment.live?.linkPin, segment.entry.link]));
  return links.map((link) => moved.get(link) ?? link);
}

/** Detaches from the last link to the first. */
function detachSteps(hook: ChainHook, leaving: readonly Subchain[], links: readonly string[]): Step[] {
  const left = [...links];
  return leaving.toReversed().map(({ attachment, programs }): Step => {
    const link = attachment?.linkPin ?? '';
    const at = left.indexOf(link);
    if (at !== -1) left.splice(at, 1);
    return { op: 'detach', hook, program: programPin(programs[0]?.dir ?? ''), link, place: placeAmong(left, at) };
  });
}

function placeAmong(links: readonly string[], at: number): LinkPosition | null {
  const [former, next] = [links[at - 1], links[at]];
  if (former !== undefined) return { side: 'behind', link: former };
  return next === undefined ? null : { side: 'before', link: next };
}

/**
 * A link that gets the pin of a dead link replaces it, so the dead link needs no detach. A filter replaces no dead
 * link.
 */
function deadLinks({ hook, attachments }: ObservedHook, segments: readonly SegmentPlan[]): Step[] {
  const made = new Set(segments.filter(({ live }) => isLink(live)).map(({ entry }) => entry.link));
  return attachments
    .filter(({ attached, linkPin: link }) => !attached && !made.has(link))
    .map(({ linkPin: link }) => ({ op: 'detach', hook, program: '', link, place: null }));
}

function discardAllBut(observed: ObservedHook, kept: ReadonlySet<string>): Step[] {
  return observed.loadedPrograms
    .filter((loaded) => !kept.has(loaded.dir))
    .map((loaded) => ({ op: 'discard', dir: loaded.dir }));
}
