/*
 * When a companion that does not run is started again, and when it is given up. Times are in milliseconds of a
 * monotonic clock.
 */

export interface RestartPolicy {
  /** Restarts within the window after which the companion is given up; 0: it is never started again. */
  readonly maxRestarts: number;
  /** The window. Also how long a companion must run well before its restarts are forgotten. */
  readonly windowMs: number;
  /** Pause between the first restart and the second. It doubles before each further one. */
  readonly backOffMs: number;
}

/** What one check finds. */
export type CompanionHealth =
  /** Its process exists, and `cmd_status`, if it has one, prints RUNNING. */
  | 'running'
  /** Its process exists, but `cmd_status` does not print RUNNING. */
  | 'silent'
  | 'ended'
  /** No process exists, although one should. */
  | 'absent';

/** `waiting`: it does not run and will be started. `given-up`: it does not run and will not be started. */
export type CompanionCondition = 'running' | 'waiting' | 'given-up';

/** What is remembered of a companion between checks. */
export interface CompanionHistory {
  readonly condition: CompanionCondition;
  /** When it was started again or first checked, whichever was later. */
  readonly since: number;
  /** Times of the attempts to start it within the last window, oldest first. */
  readonly attempts: readonly number[];
  /** How often it was started again since it last ran well for a whole window: l3afd's RestartCount. */
  readonly restarts: number;
  /** Number of checks in a row that found it silent. */
  readonly silences: number;
}

export type Judgement =
  /** It runs, or still has a chance. */
  | { readonly action: 'none' | 'wait'; readonly history: CompanionHistory }
  /** To start now. The history already counts the start. */
  | { readonly action: 'start'; readonly history: CompanionHistory; readonly why: string }
  /** From now on it is left alone. This is reported once. */
  | { readonly action: 'give-up'; readonly history: CompanionHistory; readonly why: string };

/** A status command may fail once for other reasons. */
const SILENCES = 2;

/** @param restarts the count of a former agent */
export function newHistory(now: number, restarts: number): CompanionHistory {
  return { condition: 'running', since: now, attempts: [], restarts, silences: 0 };
}

/**
 * Decides about one companion after a check. The first restart follows at once. Each further one within the same window
 * follows after a pause that doubles. After the maximum number of restarts within the window, the companion is given
 * up.
 */
export function judge(
  before: CompanionHistory,
  health: CompanionHealth,
  now: number,
  { maxRestarts, windowMs, backOffMs }: RestartPolicy,
): Judgement {
  const attempts = before.attempts.filter((at) => now - at < windowMs);
  const silences = health === 'silent' ? before.silences + 1 : 0;
  const history = { ...before, attempts, silences };
  if (health === 'running') {
    const well = now - before.since >= windowMs;
    return { action: 'none', history: { ...history, condition: 'running', restarts: well ? 0 : before.restarts } };
  }
  if (health === 'silent' && silences < SILENCES) return { action: 'none', history };
  if (before.condition === 'given-up') return { action: 'wait', history };
  // The first start after a boot is no restart.
  const first = health === 'absent' && attempts.length === 0;
  if (attempts.length >= maxRestarts && !first) {
    const why = `${WORDS[health]}, after ${attempts.length} restarts within ${windowMs / 1000} s`;
    return { action: 'give-up', history: { ...history, condition: 'given-up' }, why };
  }
  const pause = attempts.length === 0 ? 0 : backOffMs * 2 ** (attempts.length - 1);
  if (now - (attempts.at(-1) ?? 0) < pause) return { action: 'wait', history: { ...history, condition: 'waiting' } };
  return {
    action: 'start',
    why: WORDS[health],
    history: {
      condition: 'waiting',
      since: now,
      attempts: [...attempts, now],
      restarts: first ? before.restarts : before.restarts + 1,
      silences: 0,
    },
  };
}

const WORDS = {
  silent: 'its cmd_status does not say RUNNING',
  ended: 'it has ended',
  absent: 'it does not exist',
} as const satisfies Record<Exclude<CompanionHealth, 'running'>, string>;
