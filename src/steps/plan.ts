import type { Hook } from '../domain/hook.js';
import type { Step } from './step.js';

/** The outcome of one program, as the acknowledgement reports it. */
export type ProgramResult = 'started' | 'updated' | 'moved' | 'unchanged' | 'stopped' | 'disabled' | 'failed';

export interface ProgramOutcome {
  /** The hook; {@link TRACING} for a probe. */
  readonly hook: Hook;
  readonly name: string;
  readonly version: string;
  readonly result: ProgramResult;
  /** Directory of the load that runs after the plan; undefined if the program does not run. */
  readonly dir: string | undefined;
  /** What is to be known of it besides, as a sentence. */
  readonly message?: string;
}

/**
 * The ordered steps from observed to desired. Packets do not notice prepare, and it may fail at any step. Commit makes
 * only the switches that packets notice. Then companions are stopped and started. After that there is no way back, and
 * cleanup continues after failures.
 */
export interface Plan {
  readonly prepare: readonly Step[];
  readonly commit: readonly Step[];
  /** Companions to stop. Packets no longer pass their programs then, and their maps still have their public names. */
  readonly stop: readonly Step[];
  /** Companions to start or update. The chain stands then, and its maps have their public names. */
  readonly start: readonly Step[];
  readonly cleanup: readonly Step[];
  readonly outcomes: readonly ProgramOutcome[];
  /** For each hook that changes: a sentence on how, and why this is safe. */
  readonly reasons: readonly string[];
}
