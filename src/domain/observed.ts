import { ATTACH_POINTS } from './attach-points/registry.js';
import type { ForeignProgram } from './foreign.js';
import { type ChainHook, type Hook, isTracing, sameHook } from './hook.js';
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
  /** Number of possible CPUs, for maps with one value per CPU. */
  readonly cpus?: number;
  /** The types of keys and values; absent if neither the map nor its program has BTF for them. */
  readonly key?: Layout;
  readonly value?: Layout;
  /**
   * What its flags reserve for user space: only reading (BPF_F_RDONLY) or only writing (BPF_F_WRONLY). Absent for no
   * restriction.
   */
  readonly access?: 'read' | 'write';
}

/** Stored values of a map by key, in hexadecimal; null for a key that does not exist. */
export type StoredEntries = ReadonlyMap<string, string | null>;

/** A probe program and its link, as they are pinned. */
export interface ObservedProbe {
  /** Name of its function in the object. */
  readonly function: string;
  /** Undefined if it is not pinned. */
  readonly programId: number | undefined;
  /**
   * Undefined if it is not pinned. The probe is then not attached either: such a link only detaches when its last
   * reference is closed.
   */
  readonly linkId: number | undefined;
}

/** One pinned load of the probes of a package. */
export interface LoadedProbes {
  readonly name: string;
  readonly versionSegment: string;
  readonly digest: string;
  readonly serial: number;
  readonly dir: string;
  /** Empty if the directory is incomplete. */
  readonly probes: readonly ObservedProbe[];
  readonly maps: readonly MapInfo[];
  /** Ids of maps that the probes use but that are not pinned in the directory. */
  readonly lostMaps: readonly number[];
}

/** One pinned load of one program. */
export interface LoadedProgram {
  readonly hook: ChainHook;
  readonly name: string;
  /** As in the path: dots are underscores. */
  readonly versionSegment: string;
  readonly digest: string;
  readonly serial: number;
  readonly dir: string;
  /** Undefined if the directory is incomplete: the agent died between creating it and pinning the program. */
  readonly programId: number | undefined;
  /** The slot and the program id in it (null: empty); undefined for a program without slot. */
  readonly slot: { readonly mapId: number; readonly next: number | null } | undefined;
  /**
   * Id of the program that the companion has put into its handover slot; null for none. Absent if the agent has loaded
   * the program.
   */
  readonly handedOver?: number | null;
  /** All maps except the slot, by name. */
  readonly maps: readonly MapInfo[];
  /**
   * The pins that it has lost while its program runs: the program's own, and those of maps by id. Absent if none is
   * lost.
   */
  readonly unpinned?: { readonly program: boolean; readonly maps: readonly number[] };
  /** The probes that the program's object contains beside it; absent for none. */
  readonly probes?: readonly ObservedProbe[];
}

/** Where XDP programs can run: in the driver, in the network stack, or in the device itself. */
export const XDP_RUN_MODES = ['native', 'generic', 'offloaded'] as const;
export type XdpRunMode = (typeof XDP_RUN_MODES)[number];

/** What attaches programs to hooks: several kinds of links, and filters. */
export const ATTACHMENT_KINDS = Object.values(ATTACH_POINTS).flatMap(({ attachments }) => attachments);
export type AttachmentKind = (typeof ATTACHMENT_KINDS)[number];

/** How a subchain of a chain is attached to its hook. */
export interface Attachment {
  readonly kind: AttachmentKind;
  /** Path of the pinned link; '' for a clsact filter, which has no link. */
  readonly linkPin: string;
  /** Link id; 0 for a clsact filter. */
  readonly linkId: number;
  readonly programId: number;
  /**
   * False for a link whose interface is gone or that was detached by hand. It is still pinned, but no packet passes it.
   */
  readonly attached: boolean;
  /** For an attached XDP chain: where the kernel actually runs it. */
  readonly mode?: XdpRunMode;
}

export interface ObservedHook {
  readonly hook: ChainHook;
  /** In the order in which packets pass them. Dead links can be at any place. */
  readonly attachments: readonly Attachment[];
  /**
   * Every program pinned for this hook: live ones, and what a crash left. Each one comes before the one that its
   * slot names. This is the order in which they can be released, because a program stays in the kernel while a slot
   * names it.
   */
  readonly loadedPrograms: readonly LoadedProgram[];
  /** What else is at the hook of an attached chain, in the order in which packets pass it. Absent for nothing. */
  readonly foreign?: readonly ForeignProgram[];
}

/** What the kernel and bpffs say at one moment. It is always read, never remembered. */
export interface Observed {
  readonly hooks: readonly ObservedHook[];
  /** Interface name to interface index. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** The existing control groups, among those that were asked about and those with pins; absent for none. */
  readonly cgroups?: ReadonlySet<string>;
  /** Public map path to the id of the map pinned there. */
  readonly publicMaps: ReadonlyMap<string, number>;
  /** Public map paths at which something other than a map is pinned. Absent for none. */
  readonly otherPins?: ReadonlySet<string>;
  /**
   * Those public maps that no loaded program has pinned and no program on the host uses. Their names are the kernel's,
   * cut to 15 characters.
   */
  readonly orphans?: readonly MapInfo[];
  /** Pins among our links that hold something the agent does not make. Absent for none. */
  readonly foreignLinks?: readonly string[];
  /** The probes of the host. The newest load of a name comes last. Absent for none. */
  readonly probes?: readonly LoadedProbes[];
  /**
   * What maps hold under the keys that `map_args` name, by the pin of the map. A map that was not read, or that cannot
   * be read, is absent.
   */
  readonly entries?: ReadonlyMap<string, StoredEntries>;
}

/** The pinned probes of the host. */
export function observedProbes({ probes }: Pick<Observed, 'probes'>): readonly LoadedProbes[] {
  return probes ?? [];
}

/** Whether nothing of the agent's exists. */
export function isBare(observed: Observed): boolean {
  return (
    observed.hooks.every(({ loadedPrograms }) => loadedPrograms.length === 0) && observedProbes(observed).length === 0
  );
}

/** Whether the companion that has loaded a program has put another one into its slot since. */
export function isOvertaken({ handedOver, programId }: Pick<LoadedProgram, 'handedOver' | 'programId'>): boolean {
  return typeof handedOver === 'number' && programId !== undefined && handedOver !== programId;
}

/** Whether each of the probes is pinned and attached. */
export function areWhole(probes: readonly ObservedProbe[]): boolean {
  return probes.every(({ programId, linkId }) => programId !== undefined && linkId !== undefined);
}

/**
 * Whether an attachment is a link, behind which other links are possible. An attachment that does not exist yet will be
 * a link.
 */
export function isLink(attachment: Attachment | undefined): boolean {
  return attachment?.linkPin !== '';
}

/** Whether a hook's interface or control group exists. */
export function isPresent({ interfaces, cgroups }: Pick<Observed, 'interfaces' | 'cgroups'>, hook: Hook): boolean {
  if (isTracing(hook)) return true;
  return 'cgroup' in hook ? cgroups?.has(hook.cgroup) === true : interfaces.has(hook.iface);
}

export function hookAt(observed: Observed, hook: ChainHook): ObservedHook {
  return observed.hooks.find((other) => sameHook(other.hook, hook)) ?? { hook, attachments: [], loadedPrograms: [] };
}

/** The attachment by which packets enter the chain, or the first of several; undefined for none. */
export function liveAttachment(observed: ObservedHook): Attachment | undefined {
  return observed.attachments.find((attachment) => attachment.attached);
}

/**
 * Programs joined by slots, beginning with the one by which packets enter. A subchain ends where a slot is empty, names
 * a foreign program, or closes a loop. A chain is one subchain, or several if it contains TC programs without slots:
 * each of these ends a subchain.
 */
export interface Subchain {
  /** What attaches it to its hook, dead or alive; undefined if it is only pinned. */
  readonly attachment: Attachment | undefined;
  readonly programs: readonly LoadedProgram[];
}

/** The subchains that packets pass at a hook, in the order in which they pass them. */
export function liveSubchains({ attachments, loadedPrograms }: ObservedHook): Subchain[] {
  return attachments
    .filter(({ attached }) => attached)
    .map((attachment) => ({ attachment, programs: follow(loadedPrograms, attachment.programId) }));
}

/**
 * The pinned subchains that no packet enters: the interface is gone, the link was removed by hand, or they were never
 * attached. Each ends before the first program that packets pass.
 */
export function looseSubchains(observed: ObservedHook): Subchain[] {
  const { attachments, loadedPrograms } = observed;
  const passed = new Set(liveSubchains(observed).flatMap(({ programs }) => programs));
  const successors = new Set(loadedPrograms.map((loaded) => loaded.slot?.next));
  return loadedPrograms
    .filter((head) => head.programId !== undefined && !passed.has(head) && !successors.has(head.programId))
    .map((head) => {
      const programs = follow(loadedPrograms, head.programId ?? null);
      const end = programs.findIndex((program) => passed.has(program));
      return {
        attachment: attachments.find(({ programId }) => programId === head.programId),
        programs: end === -1 ? programs : programs.slice(0, end),
      };
    });
}

/**
 * The chain according to links and slots. If nothing is attached (the interface is gone, or the link was removed by
 * hand), it is what dead links hold, or else the longest subchain that is still pinned, so that it can be attached
 * again as it is.
 */
export function standingSubchains(observed: ObservedHook): Subchain[] {
  const live = liveSubchains(observed);
  if (live.length > 0) return live;
  const loose = looseSubchains(observed);
  const held = loose.filter(({ attachment }) => attachment !== undefined);
  if (held.length > 0) return held;
  return loose.toSorted((a, b) => b.programs.length - a.programs.length).slice(0, 1);
}

/** The programs of {@link standingSubchains}. */
export function standingChain(observed: ObservedHook): readonly LoadedProgram[] {
  return programsOf(standingSubchains(observed));
}

/** The programs of subchains, without duplicates. */
export function programsOf(subchains: readonly Subchain[]): readonly LoadedProgram[] {
  return [...new Set(subchains.flatMap(({ programs }) => programs))];
}

function follow(loadedPrograms: readonly LoadedProgram[], start: number | null): readonly LoadedProgram[] {
  const chain: LoadedProgram[] = [];
  for (let next = start; next !== null; next = chain.at(-1)?.slot?.next ?? null) {
    const loaded = loadedPrograms.find(({ programId }) => programId === next);
    if (loaded === undefined || chain.includes(loaded)) break;
    chain.push(loaded);
  }
  return chain;
}
