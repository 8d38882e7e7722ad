import type { Hook, NoHook } from './hook.js';
import type { Step } from './step.js';

/** What becomes of one program, as the acknowledgement will tell it. */
export type ProgramResult = 'started' | 'updated' | 'moved' | 'unchanged' | 'stopped' | 'disabled' | 'failed';

export interface ProgramOutcome {
  /** Where; of a probe, nowhere. */
  readonly hook: Hook | NoHook;
  readonly name: string;
  readonly version: string;
  readonly result: ProgramResult;
  /** Directory of the generation that runs after the plan; undefined for a program that does not. */
  readonly dir: string | undefined;
}

/**
 * The ordered way from observed to desired. Prepare is invisible to packets and may fail anywhere; commit only flips; then
 * come the companions. After the last of them there is no way back, and cleanup goes on past failures.
 */
export interface Plan {
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  /** Companions to stop: packets have left their programs by then, and their maps still have their public names. */
  readonly stop: readonly Step[];
  /** Companions to start and to update: the chain stands by then, and its maps have their public names. */
  readonly start: readonly Step[];
  readonly cleanup: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  /** For each hook that changes, how and why so, in a sentence. */
  readonly reasons: readonly string[];
}
