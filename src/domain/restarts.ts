/*
 * When a companion that does not run is started again, and when no longer. Times are in milliseconds of any clock that does not go back.
 */

export interface RestartPolicy {
  /** Restarts within the window after which the companion is given up; 0: it is never started again. */
  readonly maxRestarts: number;
  /** The window; also how long a companion has to run well until its restarts are forgotten. */
  readonly windowMs: number;
  /** Between the first restart and the second; twice as long before each further one. */
  readonly backOffMs: number;
}

/** What is found at one look. */
export type CompanionHealth =
  /** Its process is there, and `cmd_status`, if it has one, prints RUNNING. */
  | 'running'
  /** Its process is there, and `cmd_status` does not say so. */
  | 'silent'
  | 'ended'
  /** There is none, though there should be. */
  | 'absent';

/** `waiting`: it does not run and will be started; `given-up`: it does not run and will not be. */
export type CompanionCondition = 'running' | 'waiting' | 'given-up';

/** What is remembered of a companion from look to look. */
export interface CompanionHistory {
  readonly condition: CompanionCondition;
  /** When it was started again or first looked at, whichever was last. */
  readonly since: number;
  /** Times of the attempts within the last window to start it, oldest first. */
  readonly attempts: readonly number[];
  /** How often it was started again since it last ran well for a whole window: l3afd's RestartCount. */
  readonly restarts: number;
  /** Looks in a row that found it silent. */
  readonly silences: number;
}

export type Judgement =
  /** It runs, or has its chance still. */
  | { readonly action: 'none' | 'wait'; readonly history: CompanionHistory }
  /** To be started now. The history takes it as done. */
  | { readonly action: 'start'; readonly history: CompanionHistory; readonly why: string }
  /** From now on it is left alone; said once. */
  | { readonly action: 'give-up'; readonly history: CompanionHistory; readonly why: string };

/** A status command may fail once for reasons of its own. */
const SILENCES = 2;

/** @param restarts what an agent before this one has counted */
export function newHistory(now: number, restarts: number): CompanionHistory {
  return { condition: 'running', since: now, attempts: [], restarts, silences: 0 };
}

/**
 * Decides about one companion after a look at it. The first restart comes at once, each further one of the same window after a pause that
 * doubles; when the window has seen as many as are allowed, it is given up.
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
  absent: 'it is not there',
} as const satisfies Record<Exclude<CompanionHealth, 'running'>, string>;
