import type { Direction } from '../domain/hook.js';
import type { Generation, ObservedHook } from '../domain/observed.js';
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
}

/** The address of the next load of some code: same path as its earlier loads but for the serial. */
export function nextGeneration(wanted: Omit<GenerationRef, 'serial'>, existing: readonly Generation[]): GenerationRef {
  const serials = existing.filter((other) => other.digest === wanted.digest).map((other) => other.serial);
  return { ...wanted, serial: Math.max(0, ...serials) + 1 };
}
