import type { CompanionLaunch } from './companion.js';
import type { Hook } from './hook.js';
import type { GenerationRef, ProbesRef } from './pins.js';
import type { MapArgs, MonitoredMap, PackageRef } from './program.js';

/**
 * What a plan is made of. A step says what is done, not how; it is plain data and addresses everything by pin path, so that
 * no step needs another's result and a plan can be printed, logged and compared.
 */
export type Step =
  | FetchStep
  | LoadStep
  | LoadProbesStep
  | MoveProbesStep
  | StageStep
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

/** Have the package in the cache, verified and unpacked. */
export interface FetchStep {
  readonly op: 'fetch';
  readonly package: PackageRef;
}

/** Load one program through the verifier and pin it, its slot and its maps under the generation's directory. */
export interface LoadStep {
  readonly op: 'load';
  readonly generation: GenerationRef;
  readonly dir: string;
  readonly source: LoadSource;
  /** Maps taken from another generation of the same code instead of being created: map name to pin. */
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  /** Directory of the generation at the other side of TC, with which maps that ask to be pinned by their name are shared. */
  readonly otherSide?: string;
  /** Entries written before any packet can reach the program. */
  readonly fill: readonly Fill[];
  /** What the program's maps must have, since it will be read of them; absent for nothing. */
  readonly monitors?: readonly MonitoredMap[];
  /** What is to be done with probes that the object has beside the program; `attach` unless said. */
  readonly probes?: ProbesTreatment;
}

/** Load and attach them; load and attach nothing, to try it; or leave them out, since they run already. */
export type ProbesTreatment = 'attach' | 'load' | 'leave';

/** Load the probes of a package, attach each where its section says, and pin all of it under a directory. */
export interface LoadProbesStep {
  readonly op: 'load-probes';
  readonly probes: ProbesRef;
  readonly dir: string;
  readonly source: ProbesSource;
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  readonly fill: readonly Fill[];
  readonly monitors?: readonly MonitoredMap[];
  /** `attach` unless said. */
  readonly treatment?: Exclude<ProbesTreatment, 'leave'>;
}

/** Make the directory of a generation with a slot in it, for a companion to put the program into that it loads itself. */
export interface StageStep {
  readonly op: 'stage';
  readonly generation: GenerationRef;
  readonly dir: string;
  /** Pin of a program with which what is put there must agree; null where nothing calls it by a tail call. */
  readonly like: string | null;
}

/** Take over the program that a companion has put into the slot of its stage: pin it, with its slot and its maps. */
export interface CaptureStep {
  readonly op: 'capture';
  readonly generation: GenerationRef;
  readonly dir: string;
  /** Name of the PROG_ARRAY that is the slot; '' for none. */
  readonly slotMap: string;
  /** Maps of another generation that the program is to have taken over by their public names. */
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  readonly fill: readonly Fill[];
  readonly monitors?: readonly MonitoredMap[];
  readonly claim: Claim;
}

/** What of bpffs is a companion's that pins the maps of its program itself: a folder, but for what was there before. Paths. */
export interface Claim {
  readonly folder: string;
  readonly except: readonly string[];
}

export interface ProbesSource {
  readonly package: PackageRef;
  readonly objectFile: string;
  /** The one function to load; '' for all that are probes. */
  readonly entryFunction: string;
}

/** Hand the probes beside a program, attached as they are, to another generation of the same code on the same maps. */
export interface MoveProbesStep {
  readonly op: 'move-probes';
  readonly from: string;
  readonly to: string;
}

export interface Fill extends MapArgs {
  /** Where they stand in the program's payload: `map_args.0`. */
  readonly path: string;
}

/** Where an object file is: in a package, or where the agent is installed. */
export type ObjectSource =
  | { readonly kind: 'package'; readonly package: PackageRef; readonly objectFile: string }
  | { readonly kind: 'builtin'; readonly objectPath: string };

export type LoadSource = ObjectSource & {
  readonly entryFunction: string;
  /** Name of the PROG_ARRAY that is the slot; '' for none. */
  readonly slotMap: string;
};

/**
 * Write a slot. On a fresh chain this prepares; on a live one (`live: true`) it is the one atomic step that packets notice.
 * `from` is what the slot holds before, which is also what undoing it writes back.
 */
export interface LinkStep {
  readonly op: 'link';
  readonly slot: string;
  /** Pin of the program; null: empty. */
  readonly from: string | null;
  readonly to: string | null;
  readonly live: boolean;
}

/** Where a link goes among the TCX links at a hook: right before or right behind another one of ours, which is named by its pin. */
export interface Place {
  readonly side: 'before' | 'behind';
  readonly link: string;
}

export interface AttachStep {
  readonly op: 'attach';
  readonly hook: Hook;
  readonly program: string;
  readonly link: string;
  /** null: where the kernel puts it, which is behind everything that is there. */
  readonly place: Place | null;
}

export interface DetachStep {
  readonly op: 'detach';
  readonly hook: Hook;
  /** What was attached, so that undoing can attach it again. */
  readonly program: string;
  readonly link: string;
  /** Where it was. */
  readonly place: Place | null;
}

/** Swap the attached program in place, atomically: where chains have no root. */
export interface RetargetStep {
  readonly op: 'retarget';
  readonly hook: Hook;
  readonly from: { readonly program: string; readonly link: string };
  readonly to: { readonly program: string; readonly link: string };
}

/** Change entries of a live map. Keys and values are the map's raw bytes in hexadecimal. */
export interface WriteMapStep {
  readonly op: 'write-map';
  readonly map: string;
  readonly set: readonly { readonly key: string; readonly value: string }[];
  readonly remove: readonly string[];
  /** Where what asks for it stands in the payload: `0.bpf_programs.xdp_ingress.2.map_args.0`. */
  readonly path: string;
}

/** Give a live generation's map its public name, replacing whatever generation's map has it now. */
export interface PublishStep {
  readonly op: 'publish';
  readonly pin: string;
  readonly path: string;
  /** What has the name and is to have it again if the step is taken back; absent where nothing is. */
  readonly former?: string;
}

/** Take a public name away. */
export interface UnpublishStep {
  readonly op: 'unpublish';
  readonly path: string;
  /** What has the name and is to have it again if the step is taken back; absent where nothing is. */
  readonly pin?: string;
}

/** Wait until no packet can still be inside what was replaced. */
export interface GraceStep {
  readonly op: 'grace';
}

/** Pin again what somebody has unpinned of a generation whose program runs. */
export interface RepinStep {
  readonly op: 'repin';
  readonly dir: string;
  readonly programId: number;
  /** Whether the program itself is not pinned. */
  readonly program: boolean;
  /** Ids of its maps that are not pinned. */
  readonly maps: readonly number[];
}

/** Unpin a whole generation. */
export interface DiscardStep {
  readonly op: 'discard';
  readonly dir: string;
}

/** See that the kernel has let go of what was unpinned and detached. Ids. */
export interface ProveStep {
  readonly op: 'prove';
  readonly programs: readonly number[];
  readonly maps: readonly number[];
  readonly links: readonly number[];
}

/** See that a package has what a companion is started with, before anything changes. */
export interface CheckCompanionStep {
  readonly op: 'check-companion';
  readonly launch: CompanionLaunch;
}

/** Start a companion and see it settle, in place of whatever instance of it there is. */
export interface StartCompanionStep {
  readonly op: 'start-companion';
  readonly launch: CompanionLaunch;
  /** Directory of the generation that it is the companion of. */
  readonly dir: string;
  /** How often it was started again because it had ended. */
  readonly restarts: number;
  /** Where it may pin maps, if it loads the program of that generation itself, on the stage. Others of its kind run on meanwhile. */
  readonly loads?: Claim;
}

/** Take away the names that a companion has given in its folder, and its neighbour at another hook, which shares the folder. */
export interface TidyStep {
  readonly op: 'tidy';
  readonly claim: Claim;
}

/** Stop a companion and see it gone. What it was started with says how to start it again. */
export interface StopCompanionStep {
  readonly op: 'stop-companion';
  readonly launch: CompanionLaunch;
  readonly dir: string;
  readonly restarts: number;
  /** Whether it has loaded the program of that generation. */
  readonly loads?: true;
}

/** Tell a running companion of other arguments; the chain stays as it is. */
export interface UpdateCompanionStep {
  readonly op: 'update-companion';
  readonly from: CompanionLaunch;
  readonly to: CompanionLaunch;
  /** Directory of the generation whose program it has loaded itself. */
  readonly loaded?: string;
}
