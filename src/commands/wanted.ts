import type { Command } from '../domain/command.js';
import { type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import { isBare, type Observed } from '../domain/observed.js';
import { RefusedError } from '../errors.js';
import { type ChainRules, check } from '../plan/check.js';

/* What would be desired once a command has run. */

/**
 * @param known what is desired now; null if there is no record of it
 * @throws RefusedError for what cannot be folded, or cannot be
 */
export function wantedBy(
  command: Command,
  known: DesiredState | null,
  observed: Observed,
  rules: ChainRules,
): DesiredState {
  const wanted = fold(basisOf(command, known, observed), command);
  accept(wanted, rules);
  return wanted;
}

/** @throws RefusedError for a desired state that cannot be */
export function accept(desired: DesiredState, rules: ChainRules): void {
  const [first, ...rest] = check(desired, rules);
  if (first !== undefined) throw new RefusedError([first, ...rest]);
}

/** What a delta builds on. With no record of what is desired, only a host that runs nothing of ours is known to desire nothing. */
function basisOf({ verb }: Command, known: DesiredState | null, observed: Observed): DesiredState {
  if (known !== null || verb === 'deploy') return known ?? NOTHING_DESIRED;
  if (isBare(observed)) return NOTHING_DESIRED;
  const message =
    'Programs run here, but there is no record of what is desired; send a deploy with the whole desired state';
  throw new RefusedError([{ code: 'RESYNC_REQUIRED', message }]);
}
