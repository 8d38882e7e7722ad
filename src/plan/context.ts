import type { ObservedCompanion } from '../domain/companion.js';
import type { AttachPointName } from '../domain/hook.js';
import type { LoadedProgram, Observed, ObservedHook } from '../domain/observed.js';
import type { LoadRef } from '../domain/pins.js';
import type { Program } from '../domain/program.js';
import type { ObjectSource } from '../steps/step.js';
import type { Ground } from './maps/changes.js';

/** A root program. It only jumps into the chain. */
export interface RootProgram {
  /** One of {@link ROOT_NAMES}, whatever the name of the package that it comes from. */
  readonly name: string;
  readonly version: string;
  /**
   * For a built-in root, the first 16 digits of its object file's SHA-256. For a root from a package, its {@link
   * contentDigest}.
   */
  readonly digest: string;
  readonly object: ObjectSource;
  readonly entryFunction: string;
  readonly slotMap: string;
}

/** What planning needs to know besides the two states. */
export interface PlanContext {
  readonly bpffs: string;
  readonly chaining: boolean;
  /** Where the kernel runs several programs at one hook in a defined order; see `Datapath.ordered`. */
  readonly ordered: ReadonlySet<AttachPointName>;
  readonly roots: Readonly<Record<AttachPointName, RootProgram>>;
}

/** The observed and the desired chain at one hook. */
export interface HookInput {
  readonly observed: ObservedHook;
  /** The programs that were last applied here; undefined if unknown. */
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
  /** What is known of the live maps and of this host. */
  readonly ground: Ground;
  /** What planning needs to know about programs that their companions load; absent if there are none. */
  readonly loaders?: Loaders;
  readonly names?: PublicNames;
}

/** The maps that have a public name, and the pin of each map of a load, by map id. */
export interface PublicNames extends Pick<Observed, 'publicMaps' | 'orphans'> {
  readonly pins: ReadonlyMap<number, string>;
}

/** What decides whether a program that its companion has loaded can stay; see `CompanionsInput`. */
export interface Loaders {
  readonly running: readonly ObservedCompanion[];
  readonly except: ReadonlySet<string>;
  /** Why companions are started again, by `companionKey`. Undefined: all that do not run are started. */
  readonly revivals: ReadonlyMap<string, Revival> | undefined;
  /** Whether companions that do not run are left to another plan. */
  readonly chainsOnly: boolean;
}

/** Why a companion is started again, and how often, including this time. */
export interface Revival {
  readonly why: string;
  readonly restarts: number;
}

/** The address of the next load of some code. The path is the same as that of earlier loads, except for the serial. */
export function nextLoad(wanted: Omit<LoadRef, 'serial'>, existing: readonly LoadedProgram[]): LoadRef {
  const serials = existing.filter((other) => other.digest === wanted.digest).map((other) => other.serial);
  return { ...wanted, serial: Math.max(0, ...serials) + 1 };
}
