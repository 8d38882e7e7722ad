import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/*
 * Selects tests by words such as `unit`, `integration/datapath` or `test/e2e/chains/kill.test.ts`.
 */

const ENDING = '.test.js';

/** The compiled tests in a folder, sorted, as relative paths without `.test.js`: `e2e/chains/kill`. */
export function testsBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ENDING))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1, -ENDING.length))
    .toSorted();
}

/**
 * The tests that match a word: a path, or the beginning of one.
 *
 * @throws Error for a word that matches no test
 */
export function select(tests: readonly string[], words: readonly string[]): string[] {
  const chosen = new Set<string>();
  for (const word of words) {
    const path = word.replace(/^(\.\/)?(dist\/)?(test\/)?/, '').replace(/\/$|\.test(\.[jt]s)?$/, '');
    const meant = tests.filter((test) => test.startsWith(path));
    if (path === '' || meant.length === 0)
      throw new Error(`No test matches "${word}". The groups of tests are: ${groupsOf(tests)}.`);
    for (const test of meant) chosen.add(test);
  }
  return tests.filter((test) => chosen.has(test));
}

/** The words that name whole groups of tests. */
function groupsOf(tests: readonly string[]): string {
  return [...new Set(tests.map((test) => test.split('/')[0]))].join(', ');
}
