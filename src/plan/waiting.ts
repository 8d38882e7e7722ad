import type { DesiredState } from '../domain/desired.js';
import { absence } from '../domain/hook.js';
import { isPresent, type Observed } from '../domain/observed.js';
import type { ProgramOutcome } from '../steps/plan.js';

interface Waiting extends ProgramOutcome {
  readonly programId: undefined;
  readonly message?: string;
}

/** Outcomes of the programs that are desired at interfaces which this host does not have now. No plan includes them. */
export function waitingOutcomes(desired: DesiredState, observed: Observed): Waiting[] {
  const absent = desired.chains.filter(({ hook }) => !isPresent(observed, hook));
  return absent.flatMap(({ hook, programs }) =>
    programs.map(({ name, version, enabled }): Waiting => {
      const common = { hook, name, version, dir: undefined, programId: undefined };
      if (!enabled) return { ...common, result: 'disabled' };
      const message = `${absence(hook)}; the program starts when it appears`;
      return { ...common, result: 'failed', message };
    }),
  );
}
