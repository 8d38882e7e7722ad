import type { Chain, DesiredState } from './desired.js';
import type { ChainHook } from './hook.js';

export type Verb = Command['verb'];

export const VERBS = ['deploy', 'add', 'delete'] as const satisfies readonly Verb[];

/** A command with a valid payload. {@link file://./fold.ts} checks whether it fits the host's state. */
export type Command = DeployCommand | AddCommand | DeleteCommand;

/** The whole desired state of the host. */
export interface DeployCommand extends DesiredState {
  readonly verb: 'deploy';
}

/** Programs to add to the desired state. */
export interface AddCommand extends DesiredState {
  readonly verb: 'add';
}

/** Programs to remove, by name. */
export interface DeleteCommand {
  readonly verb: 'delete';
  readonly targets: readonly DeleteTarget[];
  /** Names of probes; absent for none. */
  readonly probes?: readonly string[];
}

export interface DeleteTarget {
  readonly hook: ChainHook;
  readonly names: readonly string[];
}

export type { Chain };
