import type { DesiredState } from '../domain/desired.js';
import type { Observed } from '../domain/observed.js';
import type { ProgramOutcome } from '../domain/plan.js';

interface Waiting extends ProgramOutcome {
  readonly programId: undefined;
  readonly message?: string;
}

/** What becomes of the programs that are desired at interfaces which this host does not have now: no plan is about them. */
export function waitingOutcomes(desired: DesiredState, { interfaces }: Observed): Waiting[] {
  const absent = desired.chains.filter(({ hook }) => !interfaces.has(hook.iface));
  return absent.flatMap(({ hook, programs }) =>
    programs.map(({ name, version, enabled }): Waiting => {
      const common = { hook, name, version, dir: undefined, programId: undefined };
      if (!enabled) return { ...common, result: 'disabled' };
      const message = `This host has no interface ${hook.iface}; the program starts when it is there`;
      return { ...common, result: 'failed', message };
    }),
  );
}
