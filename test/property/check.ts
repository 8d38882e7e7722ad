import { randomInt } from 'node:crypto';
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import { type Intent, type Mixture, sequences } from './intents.js';

export interface Run extends Mixture {
  readonly sequences: number;
  /** Number of the run within a process, so that runs use different sequences. */
  readonly number?: number;
}

/** The seed of the run: random, or that of an earlier run to repeat. */
const SEED = Number(process.env.L3AF_TEST_SEED ?? randomInt(2 ** 30));

/**
 * Plays random sequences until one fails, then shrinks it to the smallest part that still fails.
 *
 * @param play rejects if the result of a sequence is wrong, with a full description
 */
export async function checkSequences(
  t: TestContext,
  run: Run,
  play: (intents: readonly (Intent | undefined)[]) => Promise<void>,
): Promise<void> {
  t.diagnostic(`L3AF_TEST_SEED=${SEED}`);
  const seed = SEED + (run.number ?? 0);
  const result = await fc.check(fc.asyncProperty(sequences(run), play), { seed, numRuns: run.sequences });
  if (!result.failed) return;
  const { errorInstance: cause, numRuns, numShrinks } = result;
  const told = cause instanceof Error ? cause.message : String(cause);
  const message = `Sequence ${numRuns} of L3AF_TEST_SEED=${SEED} fails; after ${numShrinks} cuts:\n${told}`;
  throw new Error(message, { cause });
}
