import type { CompanionLaunch } from '../domain/companion.js';
import type { ChainHook } from '../domain/hook.js';
import type { LoadRef, ProbesRef } from '../domain/pins.js';
import type { MapArgs, MonitoredMap, PackageRef } from '../domain/program.js';

/**
 * What a plan is made of. A step says what is done, not how. It is plain data and addresses everything by pin path. So
 * no step needs the result of another, and a plan can be printed, logged and compared.
 */
export type Step =
  | FetchStep
  | LoadStep
  | LoadProbesStep
  | MoveProbesStep
  | MakeHandoverStep
  | CaptureStep
  | LinkStep
  | AttachStep
  | DetachStep
  | RetargetStep
  | WriteMapStep
  | PublishStep
  | UnpublishStep
  | RepinStep
  | GraceStep
  | DiscardStep
  | ProveStep
  | CheckCompanionStep
  | StartCompanionStep
  | StopCompanionStep
  | UpdateCompanionStep
  | TidyStep;

/** Ensure that the package is in the cache, verified and unpacked. */
export interface FetchStep {
  readonly op: 'fetch';
  readonly package: PackageRef;
}

/** Load one program through the verifier. Pin it, its slot and its maps in the load's directory. */
export interface LoadStep {
  readonly op: 'load';
  readonly ref: LoadRef;
  readonly dir: string;
  readonly source: LoadSource;
  /** Maps that are taken from another load instead of being created: map name to pin. */
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  /**
   * Directories of the loadedPrograms of the same package at other hooks of the interface. Maps that ask to be pinned by
   * name are shared with them.
   */
  readonly otherSides?: readonly string[];
  /** Entries written before any packet can reach the program. */
  readonly fill: readonly LocatedMapArgs[];
  /** What will be read from the program's maps, and so must exist; absent for nothing. */
  readonly monitors?: readonly MonitoredMap[];
  /** What to do with probes that the object contains beside the program. Default: `attach`. */
  readonly probes?: ProbesTreatment;
  /** Pin of a program of the same chain, with which this one must be compatible for tail calls; absent if there is none. */
  readonly like?: string;
}

/**
 * `attach`: load and attach them. `load`: only load them, to try it. `leave`: leave them out, because they already run.
 */
export type ProbesTreatment = 'attach' | 'load' | 'leave';

/** Load the probes of a package, attach each one where its section says, and pin all of it in a directory. */
export interface LoadProbesStep {
  readonly op: 'load-probes';
  readonly probes: ProbesRef;
  readonly dir: string;
  readonly source: ProbesSource;
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  readonly fill: readonly LocatedMapArgs[];
  readonly monitors?: readonly MonitoredMap[];
  /** Default: `attach`. */
  readonly treatment?: Exclude<ProbesTreatment, 'leave'>;
}

/** Make a load's directory with a handover slot, into which a companion puts the program that it loads itself. */
export interface MakeHandoverStep {
  readonly op: 'make-handover';
  readonly ref: LoadRef;
  readonly dir: string;
  /** Pin of a program with which the companion's program must be compatible; null if no tail call leads to it. */
  readonly like: string | null;
}

/** Take over the program that a companion has put into its handover slot: pin it with its slot and its maps. */
export interface CaptureStep {
  readonly op: 'capture';
  readonly ref: LoadRef;
  readonly dir: string;
  /** Name of the PROG_ARRAY that is the slot; '' for none. */
  readonly slotMap: string;
  /** Maps of another load that the program must have taken over by their public names. */
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  readonly fill: readonly LocatedMapArgs[];
  readonly monitors?: readonly MonitoredMap[];
  readonly claim: Claim;
}

/**
 * The part of bpffs that belongs to a companion which pins its program's maps itself: a folder, except the paths that
 * were there before.
 */
export interface Claim {
  readonly folder: string;
  readonly except: readonly string[];
}

export interface ProbesSource {
  readonly package: PackageRef;
  readonly objectFile: string;
  /** The one function to load; '' for all probes. */
  readonly entryFunction: string;
}

/** Move the attached probes beside a program to another load with the same code and the same maps. */
export interface MoveProbesStep {
  readonly op: 'move-probes';
  readonly from: string;
  readonly to: string;
}

export interface LocatedMapArgs extends MapArgs {
  /** Where the entries are in the program's payload: `map_args.0`. */
  readonly path: string;
  /** Whether an entry may be left out for now that is for an interface which does not exist. */
  readonly mayWait?: true;
}

/** Where an object file is: in a package, or in the agent's installation. */
export type ObjectSource =
  | { readonly kind: 'package'; readonly package: PackageRef; readonly objectFile: string }
  | { readonly kind: 'builtin'; readonly objectPath: string };

export type LoadSource = ObjectSource & {
  readonly entryFunction: string;
  /** Name of the PROG_ARRAY that is the slot; '' for none. */
  readonly slotMap: string;
};

/**
 * Write a slot. In a chain that is not live yet, this is preparation. In a live one (`live: true`) it is the one atomic
 * step that packets notice. `from` is the former content of the slot. A rollback writes it back.
 */
export interface LinkStep {
  readonly op: 'link';
  readonly slot: string;
  /** Pin of the program; null for an empty slot. */
  readonly from: string | null;
  readonly to: string | null;
  readonly live: boolean;
}

/**
 * A link's place among the links at a hook: right before or right behind another link of ours, which is named by its
 * pin.
 */
export interface LinkPosition {
  readonly side: 'before' | 'behind';
  readonly link: string;
}

export interface AttachStep {
  readonly op: 'attach';
  readonly hook: ChainHook;
  readonly program: string;
  readonly link: string;
  /** null: the kernel's default, behind all existing links. */
  readonly place: LinkPosition | null;
}

export interface DetachStep {
  readonly op: 'detach';
  readonly hook: ChainHook;
  /** What was attached, so that a rollback can attach it again. */
  readonly program: string;
  readonly link: string;
  /** Where the link was. */
  readonly place: LinkPosition | null;
}

/** Replace the attached program atomically, in place: where chains have no root, or where the root changes. */
export interface RetargetStep {
  readonly op: 'retarget';
  readonly hook: ChainHook;
  readonly from: { readonly program: string; readonly link: string };
  readonly to: { readonly program: string; readonly link: string };
}

/** Change entries of a live map. Keys and values are the map's raw bytes in hexadecimal. */
export interface WriteMapStep {
  readonly op: 'write-map';
  readonly map: string;
  /** With an offset, the bytes of a global variable within the value. */
  readonly set: readonly { readonly key: string; readonly value: string; readonly offset?: number }[];
  readonly remove: readonly string[];
  /** Keys that must exist, since they are monitored and the program may count only under keys that exist. */
  readonly make?: readonly string[];
  /** Where the request for it is in the payload: `0.bpf_programs.xdp_ingress.2.map_args.0`. */
  readonly path: string;
}

/** Give a live program's map its public name. It replaces the map of any other program with that name. */
export interface PublishStep {
  readonly op: 'publish';
  readonly pin: string;
  readonly path: string;
  /** The map that has the name now and gets it back in a rollback; absent if there is none. */
  readonly former?: string;
}

/** Remove a public name. */
export interface UnpublishStep {
  readonly op: 'unpublish';
  readonly path: string;
  /** The map that has the name now and gets it back in a rollback; absent if there is none. */
  readonly pin?: string;
}

/** Wait until no packet can still be inside the replaced programs. */
export interface GraceStep {
  readonly op: 'grace';
}

/** Restore the pins of a loaded program that still runs. */
export interface RepinStep {
  readonly op: 'repin';
  readonly dir: string;
  readonly programId: number;
  /** Whether the program itself is not pinned. */
  readonly program: boolean;
  /** Ids of its maps that are not pinned. */
  readonly maps: readonly number[];
}

/** Unpin a whole load. */
export interface DiscardStep {
  readonly op: 'discard';
  readonly dir: string;
}

/** Check that the kernel has released what was unpinned and detached. The numbers are kernel ids. */
export interface ProveStep {
  readonly op: 'prove';
  readonly programs: readonly number[];
  readonly maps: readonly number[];
  readonly links: readonly number[];
}

/** Check that a package has the files that a companion needs, before anything changes. */
export interface CheckCompanionStep {
  readonly op: 'check-companion';
  readonly launch: CompanionLaunch;
}

/** Start a companion and wait until it has settled. It replaces an existing instance. */
export interface StartCompanionStep {
  readonly op: 'start-companion';
  readonly launch: CompanionLaunch;
  /** Directory of the load to which the companion belongs. */
  readonly dir: string;
  /** How often it was started again because it had ended. */
  readonly restarts: number;
  /**
   * Where the companion may pin maps; set if it loads its program itself, by a handover. Other
   * instances keep running meanwhile.
   */
  readonly loads?: Claim;
}

/**
 * Remove the names that a companion has made in its folder, and those of its neighbour at another hook that shares the
 * folder.
 */
export interface TidyStep {
  readonly op: 'tidy';
  readonly claim: Claim;
}

/** Stop a companion and wait until it is gone. The fields tell how to start it again. */
export interface StopCompanionStep {
  readonly op: 'stop-companion';
  readonly launch: CompanionLaunch;
  readonly dir: string;
  readonly restarts: number;
  /** Whether it has loaded the program itself. */
  readonly loads?: true;
}

/** Give a running companion other arguments. The chain stays as it is. */
export interface UpdateCompanionStep {
  readonly op: 'update-companion';
  readonly from: CompanionLaunch;
  readonly to: CompanionLaunch;
  /** Directory of the program that it has loaded itself. */
  readonly loaded?: string;
}
