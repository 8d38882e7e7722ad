import { randomInt } from 'node:crypto';
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import { type Intent, type Mixture, sequences } from './intents.js';

export interface Run extends Mixture {
  readonly sequences: number;
  /** Beside other runs of one process, so that they do not all play the same. */
  readonly number?: number;
}

/** The run's seed: a random one, or that of an earlier run that is to be played again. */
const SEED = Number(process.env.L3AF_TEST_SEED ?? randomInt(2 ** 30));

/**
 * Plays random sequences until one fails, and then looks for the least part of that one that fails too.
 *
 * @param play rejects for a sequence that does not come out as it should, with all that there is to tell
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
