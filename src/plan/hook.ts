import type { Hook } from '../domain/hook.js';
import { type Generation, liveAttachment, type ObservedHook, standingChain } from '../domain/observed.js';
import { linkPin, programPin, slotPin } from '../domain/pins.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { ProgramOutcome, Step } from '../domain/step.js';
import type { HookInput, PlanContext } from './context.js';
import { planMapChanges } from './maps.js';
import { keep, loadAnew, loadRoot, loadsOf, type Member } from './members.js';
import { changedStretch } from './order.js';
import { outcomesOf } from './outcome.js';

/** The part of a plan that concerns one hook. */
export interface HookPlan {
  readonly hook: Hook;
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  /** Dead links to clear away; packets do not notice. */
  readonly detach: readonly Step[];
  readonly discard: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
}

/** The attached program: the root, or with chaining off the only program. */
interface Entry {
  readonly dir: string;
  readonly link: string;
  readonly kept: Generation | undefined;
}

/**
 * From the chain that stands at a hook to the one that is wanted there. The chain is taken from the slots as they are, so that it
 * does not matter how the present state came about: a former command, a crash in the middle of one, or somebody's hand.
 */
export function planHook(input: HookInput, context: PlanContext): HookPlan {
  const running = input.wanted.filter((program) => program.enabled);
  if (running.length === 0) return planRemoval(input);
  return context.chaining ? planChain(input, running, context) : planSingle(input, running, context);
}

function planRemoval({ observed, before, wanted }: HookInput): HookPlan {
  const live = liveAttachment(observed);
  const attached = observed.generations.find((generation) => generation.programId === live?.programId);
  const dead = observed.attachments.filter((attachment) => attachment !== live);
  return {
    hook: observed.hook,
    prepare: [],
    commit:
      live === undefined
        ? []
        : [{ op: 'detach', hook: observed.hook, program: programPin(attached?.dir ?? ''), link: live.linkPin }],
    detach: dead.map((attachment) => detachDead(observed.hook, attachment.linkPin)),
    discard: discardAllBut(observed, new Set()),
    outcomes: outcomesOf({ hook: observed.hook, standing: standingChain(observed), before, wanted, members: [] }),
  };
}

function planChain(input: HookInput, running: readonly Program[], context: PlanContext): HookPlan {
  const { observed, before } = input;
  const { hook } = observed;
  const rootProgram = context.roots[hook.direction];
  const standing = standingChain(observed);
  const [head] = standing;
  const isRoot = head?.name === rootProgram.name && head.digest === rootProgram.digest && head.slot !== undefined;
  const keptRoot = isRoot ? head : undefined;
  const old = keptRoot === undefined ? [] : standing.slice(1);

  const digests = running.map(contentDigest);
  const { prefix, suffix } = changedStretch(identitiesOf(old, running), digests);
  const members = running.map((program, index): Member => {
    if (index < prefix) return keep(program, old[index]!);
    const fromEnd = running.length - index;
    if (fromEnd <= suffix) return keep(program, old[old.length - fromEnd]!);
    return loadAnew(program, input, standing, context);
  });

  const rootLoad = keptRoot === undefined ? loadRoot(rootProgram, hook, observed.generations, context) : undefined;
  const root: Entry = {
    dir: keptRoot?.dir ?? rootLoad!.dir,
    link: linkPin(context.bpffs, { hook, name: rootProgram.name, version: rootProgram.version }),
    kept: keptRoot,
  };

  // From the tail forward, so that every program is complete before anything can reach it.
  const stretch = members.slice(prefix, members.length - suffix);
  const links = stretch
    .map((member, index): Step | undefined => {
      const successor = members[prefix + index + 1];
      if (successor === undefined) return undefined;
      return { op: 'link', slot: slotPin(member.dir), from: null, to: programPin(successor.dir), live: false };
    })
    .filter((step) => step !== undefined)
    .toReversed();

  const predecessor = members[prefix - 1]?.dir ?? root.dir;
  const entrance: Step = {
    op: 'link',
    slot: slotPin(predecessor),
    from: old[prefix] === undefined ? null : programPin(old[prefix].dir),
    to: members[prefix] === undefined ? null : programPin(members[prefix].dir),
    live: keptRoot !== undefined,
  };
  const chainChanges = prefix < Math.max(members.length, old.length);
  const attaching = attachEntry(root, observed, standing);
  const maps = planMapChanges(members, before);
  return {
    hook,
    prepare: [
      ...loadsOf(members),
      ...(rootLoad === undefined ? [] : [rootLoad]),
      ...links,
      ...(keptRoot === undefined ? [entrance] : []),
    ],
    commit: [...maps, ...(keptRoot !== undefined && chainChanges ? [entrance] : []), ...attaching.commit],
    detach: attaching.detach,
    discard: discardAllBut(observed, new Set([root.dir, ...members.map((member) => member.dir)])),
    outcomes: outcomesOf({ ...input, hook, standing, members, changedMaps: new Set(maps.map((step) => step.map)) }),
  };
}

function planSingle(input: HookInput, running: readonly Program[], context: PlanContext): HookPlan {
  const { observed, before } = input;
  const { hook } = observed;
  const program = running[0]!;
  const standing = standingChain(observed);
  const [head] = standing;
  const member =
    head !== undefined && head.digest === contentDigest(program) && (head.slot?.next ?? null) === null
      ? keep(program, head)
      : loadAnew(program, input, standing, context);
  const entry: Entry = {
    dir: member.dir,
    link: linkPin(context.bpffs, { hook, name: program.name, version: program.version }),
    kept: member.load === undefined ? head : undefined,
  };
  const attaching = attachEntry(entry, observed, standing);
  const maps = planMapChanges([member], before);
  return {
    hook,
    prepare: loadsOf([member]),
    commit: [...maps, ...attaching.commit],
    detach: attaching.detach,
    discard: discardAllBut(observed, new Set([member.dir])),
    outcomes: outcomesOf({
      ...input,
      hook,
      standing,
      members: [member],
      changedMaps: new Set(maps.map((step) => step.map)),
    }),
  };
}

/**
 * Identities of a standing chain. What cannot stay as it is takes part in no match, so that it is loaded anew: a tail whose slot still
 * names something, and a program whose slot is no longer pinned and so cannot be written.
 */
function identitiesOf(old: readonly Generation[], running: readonly Program[]): string[] {
  const slotless = new Set(running.filter(({ mapName }) => mapName === '').map(contentDigest));
  return old.map((generation, index) => {
    const endsWell = index < old.length - 1 || (generation.slot?.next ?? null) === null;
    const hasSlot = generation.slot !== undefined || slotless.has(generation.digest);
    return endsWell && hasSlot ? generation.digest : `${generation.digest}!`;
  });
}

/** How the entry comes to be attached, and which links that are of no use any more go. */
function attachEntry(
  entry: Entry,
  observed: ObservedHook,
  standing: readonly Generation[],
): { commit: Step[]; detach: Step[] } {
  const { hook } = observed;
  const live = liveAttachment(observed);
  const dead = observed.attachments
    // A dead link at the entry's place is replaced by attaching there, which a filter does not do.
    .filter((attachment) => attachment !== live && (attachment.linkPin !== entry.link || live?.kind === 'clsact'))
    .map((attachment) => detachDead(hook, attachment.linkPin));
  if (live === undefined) {
    return { commit: [{ op: 'attach', hook, program: programPin(entry.dir), link: entry.link }], detach: dead };
  }
  const attached = standing.find((generation) => generation.programId === live.programId);
  const inPlace =
    entry.kept !== undefined && entry.kept === attached && (live.linkPin === entry.link || live.kind === 'clsact');
  if (inPlace) return { commit: [], detach: dead };
  const from = { program: programPin(attached?.dir ?? ''), link: live.linkPin };
  return {
    commit: [{ op: 'retarget', hook, from, to: { program: programPin(entry.dir), link: entry.link } }],
    detach: dead,
  };
}

function discardAllBut(observed: ObservedHook, kept: ReadonlySet<string>): Step[] {
  return observed.generations
    .filter((generation) => !kept.has(generation.dir))
    .map((generation) => ({ op: 'discard', dir: generation.dir, programId: generation.programId }));
}

function detachDead(hook: Hook, link: string): Step {
  return { op: 'detach', hook, program: '', link };
}
