import { writeFile } from 'node:fs/promises';

/*
 * A second reporter for node:test. It writes the outcome of the tests as JSON to the file in L3AF_TEST_OUTCOME. The
 * runner reads it.
 */

/** The outcome of a run. */
export interface Outcome {
  /** Tests that did not run, with the reason. */
  readonly skipped: readonly { readonly name: string; readonly file: string; readonly reason: string }[];
  /** Top-level tests, the slowest first. */
  readonly slowest: readonly { readonly name: string; readonly file: string; readonly seconds: number }[];
  /** Number of tests, without suites. */
  readonly count: number;
}

interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name: string;
    readonly nesting: number;
    readonly file?: string;
    readonly skip?: string | boolean;
    readonly details: { readonly duration_ms: number; readonly type?: string };
  };
}

export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const skipped: Outcome['skipped'][number][] = [];
  const outermost: Outcome['slowest'][number][] = [];
  let count = 0;
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const test = { name: data.name, file: data.file ?? '' };
    if (data.details.type !== 'suite') count += 1;
    if (data.skip !== undefined) skipped.push({ ...test, reason: String(data.skip) });
    if (data.nesting === 0) outermost.push({ ...test, seconds: data.details.duration_ms / 1000 });
  }
  const slowest = outermost.toSorted((a, b) => b.seconds - a.seconds);
  const outcome: Outcome = { skipped, slowest, count };
  const { L3AF_TEST_OUTCOME: path } = process.env;
  if (path !== undefined) await writeFile(path, JSON.stringify(outcome));
  yield '';
}
