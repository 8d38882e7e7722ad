import { type Hook, sameHook } from './hook.js';

/** A map as the kernel describes it. Sizes in bytes. */
export interface MapInfo {
  readonly name: string;
  readonly id: number;
  /** The kernel's number (`enum bpf_map_type` in include/uapi/linux/bpf.h). */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
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
  /** All maps but the slot, by name. */
  readonly maps: readonly MapInfo[];
}

/** How a chain hangs at its hook. */
export interface Attachment {
  readonly kind: 'xdp' | 'tcx' | 'clsact';
  /** Path of the pinned link; '' for a clsact filter, which has no link. */
  readonly linkPin: string;
  /** Link id; 0 for a clsact filter. */
  readonly linkId: number;
  readonly programId: number;
  /** False for a link whose interface is gone or that was detached by hand: it is pinned, but no packet meets it. */
  readonly attached: boolean;
}

export interface ObservedHook {
  readonly hook: Hook;
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
}

export function hookAt(observed: Observed, hook: Hook): ObservedHook {
  return observed.hooks.find((other) => sameHook(other.hook, hook)) ?? { hook, attachments: [], generations: [] };
}

/** The attachment through which packets enter the chain, if there is one. */
export function liveAttachment(observed: ObservedHook): Attachment | undefined {
  return observed.attachments.find((attachment) => attachment.attached);
}

/**
 * The chain as the slots have it, from the attached program on. It ends where a slot is empty, names a program that is not ours, or
 * closes a loop. Where nothing is attached (the interface went away, the link was removed by hand), it is the longest chain that is
 * still pinned, so that it can be attached again as it is.
 */
export function standingChain(observed: ObservedHook): readonly Generation[] {
  const live = liveAttachment(observed);
  if (live !== undefined) return follow(observed.generations, live.programId);
  const successors = new Set(observed.generations.map((generation) => generation.slot?.next));
  return observed.generations
    .filter(({ programId }) => programId !== undefined && !successors.has(programId))
    .map(({ programId }) => follow(observed.generations, programId ?? null))
    .reduce((longest, chain) => (chain.length > longest.length ? chain : longest), []);
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
