import { type Attachment, areWhole, type Generation, type Strand } from '../domain/observed.js';
import { furtherLinkPin, linkPin, programPin, slotPin } from '../domain/pins.js';
import { contentDigest, isSelfLoaded, type Program } from '../domain/program.js';
import type { LinkStep, LoadStep, Step } from '../domain/step.js';
import type { HookInput, PlanContext } from './context.js';
import { lacksMaps } from './maps.js';
import { keep, loadAnew, loadRoot, loadsOf, type Member } from './members.js';
import { changedStretch, commonEnd } from './order.js';
import type { Segment } from './segments.js';
import { stageAnew, stagesOf } from './staging.js';

/** What is there at a hook that segments can be made of. */
export interface Ground {
  readonly input: HookInput;
  /** Whatever of it can be kept, attached or not. */
  readonly strands: readonly Strand[];
  readonly standing: readonly Generation[];
  /** What runs at the hook afterwards. */
  readonly running: readonly Program[];
  /** Directories of generations that cannot stay; see `staleLoads`. */
  readonly stale: ReadonlySet<string>;
}

/** How one segment comes about. */
export interface SegmentPlan {
  readonly members: readonly Member[];
  /** Directories of the generations that it consists of, the root's included. */
  readonly dirs: readonly string[];
  readonly prepare: readonly Step[];
  /** The one write that packets notice, where there is one; two if the link changes its pin besides. */
  readonly flip: readonly Step[];
  /** The program that packets enter by, and where the link that holds it is pinned. */
  readonly entry: Entry;
  /** What holds the strand that the segment is made of, if packets pass it. */
  readonly live: Attachment | undefined;
}

interface Entry {
  readonly dir: string;
  readonly link: string;
}

/** The program that a chain's first segment begins with: one that stays, or one that is loaded. */
interface Root {
  readonly dir: string;
  readonly kept: Generation | undefined;
  readonly load: LoadStep | undefined;
}

/**
 * From a strand to the segment that takes its link; from nothing to one that gets a link of its own.
 *
 * @param isFirst whether it is the hook's first segment, whose link is pinned under the name of the program that it enters by
 */
export function planSegment(
  segment: Segment,
  strand: Strand | undefined,
  isFirst: boolean,
  ground: Ground,
  context: PlanContext,
): SegmentPlan {
  const root = segment.root === undefined ? undefined : rootOf(segment.root, strand, ground, context);
  const old = root === undefined || root.kept !== undefined ? behind(root?.kept, strand) : [];
  const { prefix, kept } = keptOf(segment, old, old.length > 0 ? strand : undefined, ground);
  const first = segment.programs.length - kept.length;
  const members = segment.programs.map((program, index): Member => {
    if (index < prefix) return keep(program, old[index]!);
    if (index >= first) return keep(program, kept[index - first]!);
    const make = isSelfLoaded(program) ? stageAnew : loadAnew;
    return make(program, ground.input, ground.standing, context);
  });

  const entry = entryOf(segment, root, members, isFirst, ground, context);
  const entrance = entranceOf(root, members, old, prefix);
  const live = strand?.attachment?.attached === true ? strand.attachment : undefined;
  return {
    members,
    dirs: [...(root === undefined ? [] : [root.dir]), ...members.map(({ dir }) => dir)],
    prepare: [
      ...loadsOf(members),
      ...loadsOf(root === undefined ? [] : [root]),
      ...stagesOf(members, root === undefined ? null : programPin(root.dir), ground.input, context.bpffs),
      ...linksOf(members.slice(prefix, first + 1)),
      ...entrance.filter((step) => !step.live),
    ],
    flip: [...entrance.filter((step) => step.live), ...retargetOf(entry, strand, live, ground)],
    entry,
    live,
  };
}

/** The write to the slot before what changes; none where nothing does, or where the link itself is before it. */
function entranceOf(
  root: Root | undefined,
  members: readonly Member[],
  old: readonly Generation[],
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

function rootOf(wanted: Segment['root'] & {}, strand: Strand | undefined, ground: Ground, context: PlanContext): Root {
  const head = strand?.programs[0];
  const isKept = head?.name === wanted.name && head.digest === wanted.digest && head.slot !== undefined;
  if (isKept) return { dir: head.dir, kept: head, load: undefined };
  const { hook, generations } = ground.input.observed;
  const load = loadRoot(wanted, hook, generations, context);
  return { dir: load.dir, kept: undefined, load };
}

function behind(root: Generation | undefined, strand: Strand | undefined): readonly Generation[] {
  const programs = strand?.programs ?? [];
  return root === undefined ? programs : programs.slice(1);
}

/**
 * What stays at the segment's beginning, of its own strand, and at its end, of whichever strand ends alike: a program without slot that
 * is inserted or taken away only moves the border between segments, and not what follows it.
 */
function keptOf(
  { root, programs }: Segment,
  old: readonly Generation[],
  own: Strand | undefined,
  ground: Ground,
): { prefix: number; kept: readonly Generation[] } {
  const { strands } = ground;
  const wanted = programs.map(contentDigest);
  const { prefix, suffix } = changedStretch(identitiesOf(old, ground), wanted);
  const ends = strands
    .filter((strand) => strand !== own)
    .map((strand) => {
      const end = commonEnd(identitiesOf(strand.programs, ground), wanted.slice(prefix));
      return strand.programs.slice(strand.programs.length - end);
    });
  const kept = ends.reduce(
    (longest, end) => (end.length > longest.length ? end : longest),
    old.slice(old.length - suffix),
  );
  // The kernel attaches a program once only at a hook (bpf_mprog_attach in kernel/bpf/mprog.c).
  const isEntry = root === undefined && kept.length === wanted.length;
  const isTaken = strands.some(
    ({ attachment }) => attachment?.attached === true && attachment.programId === kept[0]?.programId,
  );
  return { prefix, kept: isEntry && isTaken ? kept.slice(1) : kept };
}

/**
 * Identities of standing programs. What cannot stay as it is takes part in no match, so that it is loaded anew: a tail whose slot still
 * names something, a program of which a slot or map that is to be written is no longer pinned, and one that its companion loads anew.
 */
function identitiesOf(old: readonly Generation[], { running, stale }: Ground): string[] {
  const slotless = new Set(running.filter(({ mapName }) => mapName === '').map(contentDigest));
  return old.map((generation, index) => {
    const endsWell = index < old.length - 1 || (generation.slot?.next ?? null) === null;
    const hasSlot = generation.slot !== undefined || slotless.has(generation.digest);
    const program = running.find((other) => contentDigest(other) === generation.digest);
    const isComplete = hasSlot && areWhole(generation.probes ?? []);
    const isWhole = isComplete && (program === undefined || !lacksMaps(generation, program));
    return endsWell && isWhole && !stale.has(generation.dir) ? generation.digest : `${generation.digest}!`;
  });
}

function entryOf(
  { root, programs }: Segment,
  loaded: Root | undefined,
  members: readonly Member[],
  isFirst: boolean,
  { input }: Ground,
  { bpffs }: PlanContext,
): Entry {
  const { hook } = input.observed;
  const dir = loaded?.dir ?? members[0]!.dir;
  if (!isFirst) return { dir, link: furtherLinkPin(bpffs, dir) };
  const { name, version } = root ?? programs[0]!;
  return { dir, link: linkPin(bpffs, { hook, name, version }) };
}

/** From the tail forward, so that every program is complete before anything can reach it. */
function linksOf(stretch: readonly Member[]): Step[] {
  return stretch
    .slice(1)
    .map((successor, index): Step => {
      const slot = slotPin(stretch[index]!.dir);
      return { op: 'link', slot, from: null, to: programPin(successor.dir), live: false };
    })
    .toReversed();
}

/** Where the link that stays is to hold another program, or to be pinned elsewhere. */
function retargetOf(entry: Entry, strand: Strand | undefined, live: Attachment | undefined, { input }: Ground): Step[] {
  if (live === undefined) return [];
  const attached = strand?.programs[0]?.dir ?? '';
  if (attached === entry.dir && (live.linkPin === entry.link || live.kind === 'clsact')) return [];
  const from = { program: programPin(attached), link: live.linkPin };
  return [
    { op: 'retarget', hook: input.observed.hook, from, to: { program: programPin(entry.dir), link: entry.link } },
  ];
}
