import type { Direction } from '../domain/hook.js';
import type { Generation, ObservedHook } from '../domain/observed.js';
import type { GenerationRef } from '../domain/pins.js';
import type { Program } from '../domain/program.js';

/** A root program: it does nothing but jump into the chain. */
export interface RootProgram {
  readonly name: string;
  readonly version: string;
  /** First 16 digits of the object file's SHA-256: a new build of the root is another generation. */
  readonly digest: string;
  readonly objectPath: string;
  readonly entryFunction: string;
  readonly slotMap: string;
}

/** What planning needs to know beside the two states. */
export interface PlanContext {
  readonly bpffs: string;
  readonly chaining: boolean;
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
