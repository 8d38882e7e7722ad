import { type DesiredState, probesOf } from '../domain/desired.js';
import { hookKey } from '../domain/hook.js';
import type { Report } from '../reconcile.js';

/** Remembers what a command was to bring about that could not be taken back: maps may have values of it. */
export class HalfDone {
  #desired: DesiredState | undefined;

  note(report: Report, desired: DesiredState): void {
    if (report.status !== 'failed') this.#desired = undefined;
    else if (report.undone === false) this.#desired = desired;
  }

  /** The host is as it is desired, maps included. */
  forget(): void {
    this.#desired = undefined;
  }

  /** What the maps may have been given: what counts as applied, or what is half done. */
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
