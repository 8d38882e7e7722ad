import { type DesiredState, probesOf } from '../domain/desired.js';
import { hookKey } from '../domain/hook.js';
import type { Report } from './reconcile.js';

/** Remembers the desired state of a command that could not be rolled back. Maps may contain its values. */
export class HalfDone {
  #desired: DesiredState | undefined;

  note(report: Report, desired: DesiredState): void {
    if (report.status !== 'failed') this.#desired = undefined;
    else if (report.undone === false) this.#desired = desired;
  }

  /** Called when the host is as desired, maps included. */
  forget(): void {
    this.#desired = undefined;
  }

  /** The `map_args` that maps may have been given: those of the applied state and those of the half-done command. */
  with(applied: DesiredState | null): DesiredState | null {
    if (applied === null || this.#desired === undefined) return applied;
    const chains = [...this.#desired.chains, ...applied.chains];
    const hooks = new Map(chains.map(({ hook }) => [hookKey(hook), hook]));
    return {
      chains: [...hooks].map(([key, hook]) => ({
        hook,
        programs: chains.filter((chain) => hookKey(chain.hook) === key).flatMap(({ programs }) => programs),
      })),
      addresses: applied.addresses,
      probes: [...probesOf(this.#desired), ...probesOf(applied)],
    };
  }
}
