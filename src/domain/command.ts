import type { Chain, DesiredState } from './desired.js';
import type { Hook } from './hook.js';

export type Verb = Command['verb'];

export const VERBS = ['deploy', 'add', 'delete'] as const satisfies readonly Verb[];

/** A command whose payload is in order. Whether it fits the host's state is {@link file://./fold.ts}'s question. */
export type Command = DeployCommand | AddCommand | DeleteCommand;

/** The whole desired state of the host. */
export interface DeployCommand extends DesiredState {
  readonly verb: 'deploy';
}

/** Programs in addition to what is desired. */
export interface AddCommand extends DesiredState {
  readonly verb: 'add';
}

/** Programs to take away, by name. */
export interface DeleteCommand {
  readonly verb: 'delete';
  readonly targets: readonly DeleteTarget[];
  /** Names of probes; absent for none. */
  readonly probes?: readonly string[];
}

export interface DeleteTarget {
  readonly hook: Hook;
  readonly names: readonly string[];
}

export type { Chain };
