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
  /** Every generation pinned for this hook: live ones, and what a crash left. */
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
 * The chain that a packet really passes: from the attached program along the slots. The root comes first where there is one.
 * It ends where a slot is empty, names a program that is not ours, or closes a loop.
 */
export function liveChain(observed: ObservedHook): readonly Generation[] {
  const byProgram = new Map(
    observed.generations.flatMap((generation) =>
      generation.programId === undefined ? [] : [[generation.programId, generation] as const],
    ),
  );
  const chain: Generation[] = [];
  let next: number | null = liveAttachment(observed)?.programId ?? null;
  while (next !== null) {
    const generation = byProgram.get(next);
    if (generation === undefined || chain.includes(generation)) break;
    chain.push(generation);
    next = generation.slot?.next ?? null;
  }
  return chain;
}
