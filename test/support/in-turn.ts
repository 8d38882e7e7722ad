import { Lane, type Turn } from '../../src/apply/lane.js';
import type { Host } from '../../src/reconcile/host.js';
import * as product from '../../src/reconcile/reconcile.js';

/* For tests in which nothing else touches the datapath. */

/** Runs a task in a turn of its own lane. */
export function inTurn<T>(task: (turn: Turn) => Promise<T>): Promise<T> {
  return new Lane().run(task);
}

type WithoutTurn<F> = F extends (turn: Turn, ...args: infer Args) => infer Result ? (...args: Args) => Result : never;

/** Runs one pass in its own turn. */
export const reconcile: WithoutTurn<typeof product.reconcile> = (...args) =>
  inTurn((turn) => product.reconcile(turn, ...args));

/** A host that runs each call in its own turn. */
export interface LoneHost {
  readonly apply: WithoutTurn<Host['apply']>;
  readonly repair: WithoutTurn<Host['repair']>;
  readonly watchedCompanions: Host['watchedCompanions'];
}

export function alone(host: Host): LoneHost {
  const lane = new Lane();
  return {
    apply: (...args) => lane.run((turn) => host.apply(turn, ...args)),
    repair: (...args) => lane.run((turn) => host.repair(turn, ...args)),
    get watchedCompanions() {
      return host.watchedCompanions;
    },
  };
}
