import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CompanionHealth,
  type CompanionHistory,
  type Judgement,
  judge,
  newHistory,
  type RestartPolicy,
} from '../../../src/domain/restarts.js';

const POLICY: RestartPolicy = { maxRestarts: 3, windowMs: 100_000, backOffMs: 1_000 };

/** The decisions at each check. The first check is at second 0. */
function looks(steps: readonly (readonly [second: number, health: CompanionHealth])[], policy = POLICY): Judgement[] {
  let history = newHistory(0, 0);
  return steps.map(([second, health]) => {
    const judgement = judge(history, health, second * 1000, policy);
    history = judgement.history;
    return judgement;
  });
}

const actions = (judgements: readonly Judgement[]) => judgements.map(({ action }) => action);

test('a companion that has ended is started at once, then after pauses that double, and given up after its last chance', () => {
  const judgements = looks([
    [0, 'running'],
    [5, 'ended'],
    [5.5, 'ended'],
    [6, 'ended'],
    [7, 'ended'],
    [8, 'ended'],
    [9, 'ended'],
    [10, 'ended'],
  ]);
  assert.deepEqual(actions(judgements), ['none', 'start', 'wait', 'start', 'wait', 'start', 'give-up', 'wait']);
  assert.equal(judgements.at(-1)?.history.restarts, 3);
  assert.equal(judgements.at(-1)?.history.condition, 'given-up');
});

test('a companion that was given up stays so after the window, and is healthy as soon as it runs', () => {
  const judgements = looks([
    [1, 'ended'],
    [2, 'ended'],
    [4, 'ended'],
    [8, 'ended'],
    [1000, 'ended'],
    [1001, 'running'],
  ]);
  assert.deepEqual(actions(judgements), ['start', 'start', 'start', 'give-up', 'wait', 'none']);
  assert.equal(judgements.at(-1)?.history.condition, 'running');
});

test('restarts are forgotten after a companion has run well for a whole window, and only those in the window count', () => {
  const judgements = looks([
    [1, 'ended'],
    [2, 'running'],
    [50, 'ended'],
    [99, 'running'],
    [149, 'running'],
    [150, 'running'],
    [151, 'ended'],
  ]);
  const restarts = judgements.map(({ history }) => history.restarts);
  assert.deepEqual(restarts, [1, 1, 2, 2, 2, 0, 1]);
  assert.deepEqual(actions(judgements).at(-1), 'start');
});

test('one silent check has no effect, two in a row cause a restart', () => {
  const judgements = looks([
    [0, 'silent'],
    [10, 'running'],
    [20, 'silent'],
    [30, 'silent'],
  ]);
  assert.deepEqual(actions(judgements), ['none', 'none', 'none', 'start']);
  const last = judgements.at(-1);
  assert.ok(last?.action === 'start' && last.why === 'its cmd_status does not say RUNNING');
});

test('the first start after a boot is allowed even if restarts are not, and does not count as one', () => {
  const judgements = looks(
    [
      [0, 'absent'],
      [1, 'running'],
      [2, 'ended'],
    ],
    { ...POLICY, maxRestarts: 0 },
  );
  assert.deepEqual(actions(judgements), ['start', 'none', 'give-up']);
  assert.equal(judgements.at(-1)?.history.restarts, 0);
});

test('whatever happens, no window has more starts than allowed, and no start is too early', () => {
  const health = fc.constantFrom<CompanionHealth>('running', 'silent', 'ended', 'absent');
  const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), health), { maxLength: 60 });
  fc.assert(
    fc.property(steps, fc.integer({ min: 0, max: 5 }), (pauses, maxRestarts) => {
      const policy = { ...POLICY, maxRestarts };
      const starts: number[] = [];
      let now = 0;
      let history: CompanionHistory = newHistory(0, 0);
      for (const [pause, found] of pauses) {
        now += pause * 1000;
        const judgement = judge(history, found, now, policy);
        history = judgement.history;
        if (judgement.action !== 'start') continue;
        const earlier = starts.filter((at) => now - at < policy.windowMs);
        assert.ok(earlier.length < Math.max(maxRestarts, 1), 'too many');
        const least = earlier.length === 0 ? 0 : policy.backOffMs * 2 ** (earlier.length - 1);
        assert.ok(now - (earlier.at(-1) ?? Number.NEGATIVE_INFINITY) >= least, 'too early');
        starts.push(now);
      }
    }),
  );
});
