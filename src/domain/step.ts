import type { Hook } from './hook.js';
import type { GenerationRef } from './pins.js';
import type { MapArgs, PackageRef } from './program.js';

/**
 * What a plan is made of. A step says what is done, not how; it is plain data and addresses everything by pin path, so that
 * no step needs another's result and a plan can be printed, logged and compared.
 */
export type Step =
  | FetchStep
  | LoadStep
  | LinkStep
  | AttachStep
  | DetachStep
  | RetargetStep
  | WriteMapStep
  | PublishStep
  | UnpublishStep
  | GraceStep
  | DiscardStep;

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
  /** Entries written before any packet can reach the program. */
  readonly fill: readonly MapArgs[];
}

export type LoadSource =
  | {
      readonly kind: 'package';
      readonly package: PackageRef;
      readonly objectFile: string;
      readonly entryFunction: string;
      readonly slotMap: string;
    }
  | {
      readonly kind: 'builtin';
      readonly objectPath: string;
      readonly entryFunction: string;
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

export interface AttachStep {
  readonly op: 'attach';
  readonly hook: Hook;
  readonly program: string;
  readonly link: string;
}

export interface DetachStep {
  readonly op: 'detach';
  readonly hook: Hook;
  /** What was attached, so that undoing can attach it again. */
  readonly program: string;
  readonly link: string;
}

/** Swap the attached program in place, atomically (chaining off). */
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
}

/** Give a live generation's map its public name, replacing whatever generation's map has it now. */
export interface PublishStep {
  readonly op: 'publish';
  readonly pin: string;
  readonly path: string;
}

/** Take a public name away. */
export interface UnpublishStep {
  readonly op: 'unpublish';
  readonly path: string;
}

/** Wait until no packet can still be inside what was replaced. */
export interface GraceStep {
  readonly op: 'grace';
}

/** Unpin a whole generation and see it gone from the kernel. */
export interface DiscardStep {
  readonly op: 'discard';
  readonly dir: string;
  /** The ids to prove gone; undefined for a torso. */
  readonly programId: number | undefined;
}

/** What becomes of one program, as the acknowledgement will tell it. */
export type ProgramResult = 'started' | 'updated' | 'moved' | 'unchanged' | 'stopped' | 'disabled' | 'failed';

export interface ProgramOutcome {
  readonly hook: Hook;
  readonly name: string;
  readonly version: string;
  readonly result: ProgramResult;
  /** Directory of the generation that runs after the plan; undefined for a program that does not. */
  readonly dir: string | undefined;
}

/**
 * The ordered way from observed to desired. Prepare is invisible to packets and may fail anywhere; commit only flips; after its
 * last step there is no way back and cleanup goes on past failures.
 */
export interface Plan {
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  readonly cleanup: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  /** For each hook that changes, how and why so, in a sentence. */
  readonly reasons: readonly string[];
}
