import { type Attachment, areWhole, isLink, type LoadedProgram, type Subchain } from '../../domain/observed.js';
import { furtherLinkPin, linkPin, programPin, slotPin } from '../../domain/pins.js';
import { contentDigest, isSelfLoaded, type Program } from '../../domain/program.js';
import type { LinkStep, LoadStep, Step } from '../../steps/step.js';
import { handoverSteps, loadByCompanion } from '../companions/handover.js';
import type { HookInput, PlanContext } from '../context.js';
import { lacksMaps, staleConstants } from '../maps/changes.js';
import { keep, loadAnew, loadRoot, loadsOf, type Member } from './members.js';
import { changedStretch, commonEnd } from './order.js';
import type { Segment } from './segments.js';

/** What exists at a hook that segments can be made of. */
export interface SegmentContext {
  readonly input: HookInput;
  /** All subchains that can be kept, attached or not. */
  readonly subchains: readonly Subchain[];
  readonly standing: readonly LoadedProgram[];
  /** The programs that run at the hook after the plan. */
  readonly running: readonly Program[];
  /** Directories of loads that cannot stay; see `staleLoads`. */
  readonly stale: ReadonlySet<string>;
  /** Programs that begin with new maps; see `freshPrograms`. */
  readonly fresh: ReadonlySet<Program>;
}

/** How one segment is built. */
export interface SegmentPlan {
  readonly members: readonly Member[];
  /** Directories of the loads of the segment, including the root's. */
  readonly dirs: readonly string[];
  readonly prepare: readonly Step[];
  /** What packets notice: one write, or none. A second step follows if the pin of the link changes too. */
  readonly flip: readonly Step[];
  /** The program by which packets enter, and the pin of the link that holds it. */
  readonly entry: Entrance;
  /** The attachment of the subchain that the segment is made of, if packets pass it. */
  readonly live: Attachment | undefined;
}

/** The program by which packets enter a segment, and its link. */
interface Entrance {
  readonly dir: string;
  readonly link: string;
}

/** The root program of a chain's first segment: one that stays, or one that is loaded. */
interface Root {
  readonly dir: string;
  readonly kept: LoadedProgram | undefined;
  readonly load: LoadStep | undefined;
}

/**
 * Plans one segment. A segment with a subchain takes over the subchain's link; one without a subchain gets a new link.
 *
 * @param isFirst whether it is the hook's first segment. Its link is pinned under the name of the program by which
 *   packets enter
 */
export function planSegment(
  segment: Segment,
  subchain: Subchain | undefined,
  isFirst: boolean,
  ground: SegmentContext,
  context: PlanContext,
): SegmentPlan {
  const root = segment.root === undefined ? undefined : rootOf(segment.root, subchain, ground, context);
  const old = root === undefined || root.kept !== undefined ? behind(root?.kept, subchain) : [];
  const { prefix, kept } = keptOf(segment, old, old.length > 0 ? subchain : undefined, ground);
  const first = segment.programs.length - kept.length;
  const members = segment.programs.map((program, index): Member => {
    if (index < prefix) return keep(program, old[index]!);
    if (index >= first) return keep(program, kept[index - first]!);
    if (isSelfLoaded(program)) return loadByCompanion(program, ground.input, ground.standing, context);
    return loadAnew(program, ground.input, ground.standing, context, { isFresh: ground.fresh.has(program) });
  });

  const entry = entryOf(segment, root, members, isFirst, ground, context);
  const entrance = entranceOf(root, members, old, prefix);
  const live = subchain?.attachment?.attached === true ? subchain.attachment : undefined;
  return {
    members,
    dirs: [...(root === undefined ? [] : [root.dir]), ...members.map(({ dir }) => dir)],
    prepare: [
      ...alike(loadsOf([...(root === undefined ? [] : [root]), ...members]), standingIn(root, members)),
      ...handoverSteps(members, root === undefined ? null : programPin(root.dir), ground.input, context.bpffs),
      ...linksOf(members.slice(prefix, first + 1)),
      ...entrance.filter((step) => !step.live),
    ],
    flip: [...entrance.filter((step) => step.live), ...retargetOf(entry, subchain, live, ground)],
    entry,
    live,
  };
}

/** A program of the segment that is loaded already, if there is one. */
function standingIn(root: Root | undefined, members: readonly Member[]): string | undefined {
  const kept = members.find(({ load, handover }) => load === undefined && handover === undefined);
  return root?.kept?.dir ?? kept?.dir;
}

/**
 * Has each program compared with one that it will call or be called by, when it is loaded. Otherwise only the write that
 * packets notice would fail.
 */
function alike(loads: readonly LoadStep[], standing: string | undefined): LoadStep[] {
  const model = standing ?? loads[0]?.dir;
  return loads.map((load) => (model === undefined || load.dir === model ? load : { ...load, like: programPin(model) }));
}

/**
 * The write to the slot before the changed stretch. Empty if nothing changes, or if the link itself is before the
 * stretch.
 */
function entranceOf(
  root: Root | undefined,
  members: readonly Member[],
  old: readonly LoadedProgram[],
  prefix: number,
): LinkStep[] {
  const predecessor = members[prefix - 1]?.dir ?? root?.dir;
  if (predecessor === undefined || prefix === Math.max(members.length, old.length)) return [];
  const pinOf = (program: { readonly dir: string } | undefined) =>
    program === undefined ? null : programPin(program.dir);
  const isStanding = root === undefined || root.kept !== undefined;
  const [from, to] = [pinOf(old[prefix]), pinOf(members[prefix])];
  return [{ op: 'link', slot: slotPin(predecessor), from, to, live: isStanding }];
}

function rootOf(
  wanted: Segment['root'] & {},
  subchain: Subchain | undefined,
  ground: SegmentContext,
  context: PlanContext,
): Root {
  const head = subchain?.programs[0];
  const isKept = head?.name === wanted.name && head.digest === wanted.digest && head.slot !== undefined;
  if (isKept) return { dir: head.dir, kept: head, load: undefined };
  const { hook, loadedPrograms } = ground.input.observed;
  const load = loadRoot(wanted, hook, loadedPrograms, context);
  return { dir: load.dir, kept: undefined, load };
}

function behind(root: LoadedProgram | undefined, subchain: Subchain | undefined): readonly LoadedProgram[] {
  const programs = subchain?.programs ?? [];
  return root === undefined ? programs : programs.slice(1);
}

/**
 * What stays at the beginning of the segment (from its own subchain) and at its end (from any subchain with the same
 * end). So when a program without slot is inserted or removed, only the border between segments moves. The programs
 * behind it stay.
 */
function keptOf(
  { root, programs }: Segment,
  old: readonly LoadedProgram[],
  own: Subchain | undefined,
  ground: SegmentContext,
): { prefix: number; kept: readonly LoadedProgram[] } {
  const { subchains } = ground;
  const wanted = programs.map(contentDigest);
  const { prefix, suffix } = changedStretch(identitiesOf(old, ground), wanted);
  const ends = subchains
    .filter((subchain) => subchain !== own)
    .map((subchain) => {
      const end = commonEnd(identitiesOf(subchain.programs, ground), wanted.slice(prefix));
      return subchain.programs.slice(subchain.programs.length - end);
    });
  const kept = ends.reduce(
    (longest, end) => (end.length > longest.length ? end : longest),
    old.slice(old.length - suffix),
  );
  // The kernel attaches a program only once at a hook (bpf_mprog_attach in kernel/bpf/mprog.c).
  const isEntry = root === undefined && kept.length === wanted.length;
  const isTaken = subchains.some(
    ({ attachment }) => attachment?.attached === true && attachment.programId === kept[0]?.programId,
  );
  return { prefix, kept: isEntry && isTaken ? kept.slice(1) : kept };
}

/**
 * Identities of standing programs: their digests. A program that cannot stay as it is gets one that no digest equals, so
 * that it is loaded again:
 *
 * - a tail whose slot still names a program,
 * - a program that has lost the pin of its slot, of a probe, or of a map that must be written,
 * - one with other load-time constants,
 * - one that its companion loads again, or whose companion has other arguments.
 */
function identitiesOf(old: readonly LoadedProgram[], { running, stale, fresh, input }: SegmentContext): string[] {
  const slotless = new Set(running.filter(({ mapName }) => mapName === '').map(contentDigest));
  return old.map((loaded, index) => {
    const endsWell = index < old.length - 1 || (loaded.slot?.next ?? null) === null;
    const hasSlot = loaded.slot !== undefined || slotless.has(loaded.digest);
    const program = running.find((other) => contentDigest(other) === loaded.digest);
    const isComplete = hasSlot && areWhole(loaded.probes ?? []);
    const isAsAsked = (one: Program) =>
      !fresh.has(one) &&
      !lacksMaps(loaded, one) &&
      staleConstants(loaded, one, input.before, input.ground).length === 0;
    const isWhole = isComplete && (program === undefined || isAsAsked(program));
    return endsWell && isWhole && !stale.has(loaded.dir) ? loaded.digest : `${loaded.digest}!`;
  });
}

function entryOf(
  { root, programs }: Segment,
  loaded: Root | undefined,
  members: readonly Member[],
  isFirst: boolean,
  { input }: SegmentContext,
  { bpffs }: PlanContext,
): Entrance {
  const { hook } = input.observed;
  const dir = loaded?.dir ?? members[0]!.dir;
  if (!isFirst) return { dir, link: furtherLinkPin(bpffs, dir) };
  const { name, version } = root ?? programs[0]!;
  return { dir, link: linkPin(bpffs, { hook, name, version }) };
}

/** Links from the tail forward, so that every program is complete before a packet can reach it. */
function linksOf(stretch: readonly Member[]): Step[] {
  return stretch
    .slice(1)
    .map((successor, index): Step => {
      const slot = slotPin(stretch[index]!.dir);
      return { op: 'link', slot, from: null, to: programPin(successor.dir), live: false };
    })
    .toReversed();
}

/** Changes the program or the pin of a link that stays. */
function retargetOf(
  entry: Entrance,
  subchain: Subchain | undefined,
  live: Attachment | undefined,
  { input }: SegmentContext,
): Step[] {
  if (live === undefined) return [];
  const attached = subchain?.programs[0]?.dir ?? '';
  if (attached === entry.dir && (live.linkPin === entry.link || !isLink(live))) return [];
  const from = { program: programPin(attached), link: live.linkPin };
  return [
    { op: 'retarget', hook: input.observed.hook, from, to: { program: programPin(entry.dir), link: entry.link } },
  ];
}
