import { type Hook, sameHook } from './hook.js';
import type { Layout } from './layout.js';

/** A map as the kernel describes it. Sizes in bytes. */
export interface MapInfo {
  readonly name: string;
  readonly id: number;
  /** The kernel's number (`enum bpf_map_type` in include/uapi/linux/bpf.h). */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Possible CPUs, of a kind that holds a value for each under every key. */
  readonly cpus?: number;
  /** What keys and values mean; absent where the map's BTF does not tell. */
  readonly key?: Layout;
  readonly value?: Layout;
}

/** A probe program and the link that holds it, as they are pinned. */
export interface ObservedProbe {
  /** Name of its function in the object. */
  readonly function: string;
  /** Undefined while it is not pinned. */
  readonly programId: number | undefined;
  /** Undefined while it is not pinned, and then attached to nothing: nobody can take such a link off but by its last user. */
  readonly linkId: number | undefined;
}

/** One load of the probes of a package, pinned. */
export interface ProbeGeneration {
  readonly name: string;
  readonly versionSegment: string;
  readonly digest: string;
  readonly serial: number;
  readonly dir: string;
  /** None while the directory is a torso. */
  readonly probes: readonly ObservedProbe[];
  readonly maps: readonly MapInfo[];
  /** Ids of maps that the probes use without their being pinned there. */
  readonly lostMaps: readonly number[];
}

/** One pinned generation of one program. */
export interface Generation {
  readonly hook: Hook;
  readonly name: string;
  /** As it stands in the path: dots are underscores. */
  readonly versionSegment: string;
  readonly digest: string;
  readonly serial: number;
  readonly dir: string;
  /** Undefined while the directory is a torso: the agent died between making it and pinning the program. */
  readonly programId: number | undefined;
  /** The slot and the program id in it (null: empty); undefined for a program without slot. */
  readonly slot: { readonly mapId: number; readonly next: number | null } | undefined;
  /** Id of the program that its companion has put into the slot that it was given; null for none. Absent for one that the agent has loaded. */
  readonly staged?: number | null;
  /** All maps but the slot, by name. */
  readonly maps: readonly MapInfo[];
  /** What it has lost the pins of while its program runs on: the program itself, maps by their ids. Absent if nothing is lost. */
  readonly unpinned?: { readonly program: boolean; readonly maps: readonly number[] };
  /** The probes that are in the program's object beside it; absent where there are none. */
  readonly probes?: readonly ObservedProbe[];
}

/** Where XDP programs can run: in the driver, in the network stack, or in the device itself. */
export const XDP_RUN_MODES = ['native', 'generic', 'offloaded'] as const;
export type XdpRunMode = (typeof XDP_RUN_MODES)[number];

/** How a strand of a chain hangs at its hook. */
export interface Attachment {
  readonly kind: 'xdp' | 'tcx' | 'clsact';
  /** Path of the pinned link; '' for a clsact filter, which has no link. */
  readonly linkPin: string;
  /** Link id; 0 for a clsact filter. */
  readonly linkId: number;
  readonly programId: number;
  /** False for a link whose interface is gone or that was detached by hand: it is pinned, but no packet meets it. */
  readonly attached: boolean;
  /** Of an attached XDP chain: where the kernel really runs it. */
  readonly mode?: XdpRunMode;
}

export interface ObservedHook {
  readonly hook: Hook;
  /** In the order in which packets meet them; dead links at whichever place. */
  readonly attachments: readonly Attachment[];
  /**
   * Every generation pinned for this hook: live ones, and what a crash left. Each comes before the one that its slot names: in this order
   * they can be let go, since a program stays in the kernel as long as a slot names it.
   */
  readonly generations: readonly Generation[];
}

/** What the kernel and bpffs say at one moment. Never remembered, always read. */
export interface Observed {
  readonly hooks: readonly ObservedHook[];
  /** Interface name to interface index. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** Public map path to the id of the map pinned there. */
  readonly publicMaps: ReadonlyMap<string, number>;
  /** Of these maps, the ones that no generation and no program on the host uses; with the names that the kernel keeps, cut to 15 characters. */
  readonly orphans?: readonly MapInfo[];
  /** The probes of the host, the newest load of a name last; absent where there are none. */
  readonly probes?: readonly ProbeGeneration[];
}

/** The probes of the host that are pinned. */
export function observedProbes({ probes }: Pick<Observed, 'probes'>): readonly ProbeGeneration[] {
  return probes ?? [];
}

/** Whether nothing of ours is there. */
export function isBare(observed: Observed): boolean {
  return observed.hooks.every(({ generations }) => generations.length === 0) && observedProbes(observed).length === 0;
}

/** Whether the companion that has loaded a program has put another one into its slot since. */
export function isOvertaken({ staged, programId }: Pick<Generation, 'staged' | 'programId'>): boolean {
  return typeof staged === 'number' && programId !== undefined && staged !== programId;
}

/** Whether each of some probes is pinned and attached. */
export function areWhole(probes: readonly ObservedProbe[]): boolean {
  return probes.every(({ programId, linkId }) => programId !== undefined && linkId !== undefined);
}

export function hookAt(observed: Observed, hook: Hook): ObservedHook {
  return observed.hooks.find((other) => sameHook(other.hook, hook)) ?? { hook, attachments: [], generations: [] };
}

/** The attachment through which packets enter the chain, if there is one: the first of several. */
export function liveAttachment(observed: ObservedHook): Attachment | undefined {
  return observed.attachments.find((attachment) => attachment.attached);
}

/**
 * Programs joined by slots, from the one by which packets enter on. It ends where a slot is empty, names a program that is not ours, or
 * closes a loop. A chain is one strand, or several where TC programs without slots are in it: each of these ends one.
 */
export interface Strand {
  /** What holds it at its hook, dead or alive; undefined for one that is only pinned. */
  readonly attachment: Attachment | undefined;
  readonly programs: readonly Generation[];
}

/** The strands that packets pass at a hook, in the order in which they do. */
export function liveStrands({ attachments, generations }: ObservedHook): Strand[] {
  return attachments
    .filter(({ attached }) => attached)
    .map((attachment) => ({ attachment, programs: follow(generations, attachment.programId) }));
}

/**
 * The strands that are pinned and that no packet enters: the interface went away, the link was removed by hand, or they were never
 * attached. Each ends where packets come by.
 */
export function looseStrands(observed: ObservedHook): Strand[] {
  const { attachments, generations } = observed;
  const passed = new Set(liveStrands(observed).flatMap(({ programs }) => programs));
  const successors = new Set(generations.map((generation) => generation.slot?.next));
  return generations
    .filter((head) => head.programId !== undefined && !passed.has(head) && !successors.has(head.programId))
    .map((head) => {
      const programs = follow(generations, head.programId ?? null);
      const end = programs.findIndex((program) => passed.has(program));
      return {
        attachment: attachments.find(({ programId }) => programId === head.programId),
        programs: end === -1 ? programs : programs.slice(0, end),
      };
    });
}

/**
 * The chain as links and slots have it. Where nothing is attached (the interface went away, the link was removed by hand), it is what
 * dead links hold, or else the longest strand that is still pinned, so that it can be attached again as it is.
 */
export function standingStrands(observed: ObservedHook): Strand[] {
  const live = liveStrands(observed);
  if (live.length > 0) return live;
  const loose = looseStrands(observed);
  const held = loose.filter(({ attachment }) => attachment !== undefined);
  if (held.length > 0) return held;
  return loose.toSorted((a, b) => b.programs.length - a.programs.length).slice(0, 1);
}

/** The programs of {@link standingStrands}. */
export function standingChain(observed: ObservedHook): readonly Generation[] {
  return programsOf(standingStrands(observed));
}

/** The programs of strands, each once. */
export function programsOf(strands: readonly Strand[]): readonly Generation[] {
  return [...new Set(strands.flatMap(({ programs }) => programs))];
}

function follow(generations: readonly Generation[], start: number | null): readonly Generation[] {
  const chain: Generation[] = [];
  for (let next = start; next !== null; next = chain.at(-1)?.slot?.next ?? null) {
    const generation = generations.find(({ programId }) => programId === next);
    if (generation === undefined || chain.includes(generation)) break;
    chain.push(generation);
  }
  return chain;
}
