import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { graceBetween } from '../../../src/plan/plan.js';
import { describeStep } from '../../../src/steps/describe.js';
import type { Step, WriteMapStep } from '../../../src/steps/step.js';
import { endedBy, type MapHistory, madeBy, traitsOf, undoOf } from '../../../src/steps/traits.js';
import { ALL_SAMPLES, SAMPLES } from '../../support/steps.js';

type Entries = Pick<WriteMapStep, 'set' | 'remove'>;

/** One map. Asking for the undo of a step also applies the step to it. */
function oneMap(entries: Readonly<Record<string, string>>): MapHistory {
  const now = new Map(Object.entries(entries));
  return {
    async inverseOf(_pin: string, { set, remove }: Entries): Promise<Entries> {
      const keys = [...set.map(({ key }) => key), ...remove];
      const inverse = {
        set: keys.flatMap((key) => (now.has(key) ? [{ key, value: now.get(key)! }] : [])),
        remove: keys.filter((key) => !now.has(key)),
      };
      for (const { key, value } of set) now.set(key, value);
      for (const key of remove) now.delete(key);
      return inverse;
    },
  };
}

const NO_MAPS: MapHistory = { inverseOf: async () => ({ set: [], remove: [] }) };

/** The kinds of steps for which a condition holds in at least one sample. */
function opsWith(has: (step: Step) => boolean): string[] {
  return [...new Set(ALL_SAMPLES.filter(has).map(({ op }) => op))].toSorted();
}

const wordsOf = (step: Step, index: number) => `${step.op} ${index}`;

describe('the traits of a step', () => {
  for (const [index, step] of ALL_SAMPLES.entries()) {
    const traits = traitsOf(step);

    it(`roll back what it makes: ${wordsOf(step, index)}`, async () => {
      const gone = endedBy(await undoOf(step, NO_MAPS));
      for (const made of traits.pins.makes) assert.ok(gone.has(made), `${made} is left`);
    });

    it(`need a grace period if packets take another path: ${wordsOf(step, index)}`, () => {
      const discard: Step[] = [{ op: 'discard', dir: '/bpffs/progs/veth0/z/1_0/xdpingress-00-1' }];
      const grace = graceBetween([step], discard);
      assert.deepEqual(grace, traits.diverts ? [{ op: 'grace' }] : []);
      assert.deepEqual(graceBetween([step], []), [], 'nothing goes that a packet may be in');
    });

    it(`can be rehearsed unnoticed, or not at all: ${wordsOf(step, index)}`, async () => {
      const { rehearsal } = traits;
      if (rehearsal === undefined) return;
      const tried = traitsOf(rehearsal);
      assert.equal(rehearsal.op, step.op);
      assert.equal(tried.diverts, false);
      assert.deepEqual(tried.rehearsal, rehearsal, 'to rehearse a rehearsal changes nothing');
      assert.deepEqual([tried.pins, tried.blame, tried.package], [traits.pins, traits.blame, traits.package]);
    });

    it(`name a fault that can be found: ${wordsOf(step, index)}`, () => {
      const { blame, hook } = traits;
      if (blame?.on === 'program') assert.ok(hook !== undefined && blame.name !== '');
      if (blame?.on === 'interface') assert.ok(hook !== undefined && hook.direction !== '');
    });

    it(`contain only our pins, each for one purpose: ${wordsOf(step, index)}`, () => {
      const { makes, uses, takesOver, ends } = traits.pins;
      const all = [...makes, ...uses, ...takesOver, ...ends];
      assert.equal(new Set(all).size, all.length);
      for (const pin of all) assert.match(pin, /^\/bpffs\/(progs|links)\/./);
    });

    it(`include a description: ${wordsOf(step, index)}`, () => {
      assert.match(describeStep(step), /^[a-z][^\n]+[^.\s]$/);
      assert.doesNotMatch(describeStep(step), /undefined|NaN|null/);
    });
  }

  it('give the original step again when its rollback is rolled back', async () => {
    const once: string[] = [];
    for (const step of ALL_SAMPLES) {
      const maps = oneMap({ '01000000': '00', '02000000': 'aa' });
      const [undo, ...others] = await undoOf(step, maps);
      if (undo === undefined) continue;
      const again = await undoOf(undo, maps);
      if (others.length === 0 && isDeepStrictEqual(again, [step])) continue;
      once.push(step.op);
    }
    // A rollback of a load is final. Only another load brings the program back.
    assert.deepEqual(once, ['load', 'load', 'load-probes', 'make-handover', 'make-handover', 'start-companion']);
  });

  it('are true for exactly the expected kinds', () => {
    assert.deepEqual(
      opsWith((step) => traitsOf(step).diverts),
      ['detach', 'link', 'retarget'],
    );
    assert.deepEqual(
      opsWith((step) => madeBy([step]).size > 0),
      ['attach', 'load', 'load-probes', 'make-handover'],
    );
    assert.deepEqual(
      opsWith((step) => endedBy([step]).size > 0),
      ['detach', 'discard'],
    );
  });

  it('have samples of each kind, under its name', () => {
    for (const [op, samples] of Object.entries(SAMPLES)) {
      for (const step of samples) assert.equal(step.op, op);
    }
  });
});
