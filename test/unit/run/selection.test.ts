import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { select } from '../../run/selection.js';

const TESTS = [
  'architecture',
  'e2e/chains/kill',
  'integration/bus/outbox',
  'integration/bus/publish',
  'unit/plan/order',
];

describe('the tests that a word selects', () => {
  for (const [word, meant] of [
    ['integration', ['integration/bus/outbox', 'integration/bus/publish']],
    ['integration/', ['integration/bus/outbox', 'integration/bus/publish']],
    ['integration/bus/o', ['integration/bus/outbox']],
    ['test/e2e/chains/kill.test.ts', ['e2e/chains/kill']],
    ['./test/unit', ['unit/plan/order']],
    ['dist/test/architecture.test.js', ['architecture']],
  ] as const) {
    it(`are found by ${word}`, () => {
      assert.deepEqual(select(TESTS, [word]), meant);
    });
  }

  it('are each run once, in the order of their paths', () => {
    assert.deepEqual(select(TESTS, ['unit', 'integration/bus/publish', 'integration']), TESTS.slice(2));
  });

  for (const word of ['integartion', 'bus', '', 'test/', '..']) {
    it(`are none, and no others are run instead, for "${word}"`, () => {
      assert.throws(
        () => select(TESTS, ['unit', word]),
        /No test matches ".*"\. The groups of tests are: architecture, e2e, integration, unit\./,
      );
    });
  }
});
