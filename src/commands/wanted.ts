import type { Command } from '../domain/command.js';
import { type DesiredState, NOTHING_DESIRED } from '../domain/desired.js';
import { fold } from '../domain/fold.js';
import { isBare, type Observed } from '../domain/observed.js';
import { RefusedError } from '../errors.js';
import { type ChainRules, check } from '../plan/check.js';

/*
 * What would be desired after a command.
 */

/**
 * @param known the current desired state; null if there is no record of it
 * @throws RefusedError if the command cannot be folded, or if the result is impossible
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

/** @throws RefusedError for an impossible desired state */
export function accept(desired: DesiredState, rules: ChainRules): void {
  const [first, ...rest] = check(desired, rules);
  if (first !== undefined) throw new RefusedError([first, ...rest]);
}

/**
 * The state that a delta builds on. Without a record of the desired state, only a host that runs nothing of ours is
 * known to desire nothing.
 */
function basisOf({ verb }: Command, known: DesiredState | null, observed: Observed): DesiredState {
  if (known !== null || verb === 'deploy') return known ?? NOTHING_DESIRED;
  if (isBare(observed)) return NOTHING_DESIRED;
  const message =
    'Programs run here, but there is no record of what is desired; send a deploy with the whole desired state';
  throw new RefusedError([{ code: 'RESYNC_REQUIRED', message }]);
}
