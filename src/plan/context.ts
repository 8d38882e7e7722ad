import type { ObservedCompanion } from '../domain/companion.js';
import type { Direction } from '../domain/hook.js';
import type { Generation, Observed, ObservedHook } from '../domain/observed.js';
import type { GenerationRef } from '../domain/pins.js';
import type { Program } from '../domain/program.js';
import type { ObjectSource } from '../domain/step.js';

/** A root program: it does nothing but jump into the chain. */
export interface RootProgram {
  /** One of {@link ROOT_NAMES}, whatever the package is called that it comes from. */
  readonly name: string;
  readonly version: string;
  /** Of a built-in root the first 16 digits of its object file's SHA-256, of one from a package its {@link contentDigest}. */
  readonly digest: string;
  readonly object: ObjectSource;
  readonly entryFunction: string;
  readonly slotMap: string;
}

/** What planning needs to know beside the two states. */
export interface PlanContext {
  readonly bpffs: string;
  readonly chaining: boolean;
  /** Whether TC programs are attached by TCX links, which have an order. */
  readonly tcx: boolean;
  readonly roots: Readonly<Record<Direction, RootProgram>>;
}

/** What there is and what is wanted at one hook. */
export interface HookInput {
  readonly observed: ObservedHook;
  /** The programs that were last applied here; undefined if that is not known. */
  readonly before: readonly Program[] | undefined;
  readonly wanted: readonly Program[];
  /** What is to be known of programs that their companions load; absent where there are none. */
  readonly loaders?: Loaders;
  readonly names?: PublicNames;
}

/** What has a public name, and where each map of a generation is pinned besides, by its id. */
export interface PublicNames extends Pick<Observed, 'publicMaps' | 'orphans'> {
  readonly pins: ReadonlyMap<number, string>;
}

/** What decides whether a program that its companion has loaded can stay as it is; see `CompanionsInput`. */
export interface Loaders {
  readonly running: readonly ObservedCompanion[];
  readonly except: ReadonlySet<string>;
  /** Why companions are to be started again, by `companionKey`; undefined: all that do not run are. */
  readonly revivals: ReadonlyMap<string, Revival> | undefined;
  /** Whether companions that do not run are for another plan. */
  readonly chainsOnly: boolean;
}

/** Why a companion is to be started again, and how often it was with this time. */
export interface Revival {
  readonly why: string;
  readonly restarts: number;
}

/** The address of the next load of some code: same path as its earlier loads but for the serial. */
export function nextGeneration(wanted: Omit<GenerationRef, 'serial'>, existing: readonly Generation[]): GenerationRef {
  const serials = existing.filter((other) => other.digest === wanted.digest).map((other) => other.serial);
  return { ...wanted, serial: Math.max(0, ...serials) + 1 };
}
