import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { runAll } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { Step } from '../../../src/steps/step.js';
import { builtPackages, noCompanions } from '../../support/chains.js';
import { SAMPLES } from '../../support/steps.js';

/** Takes a few turns of the event loop for each operation, and notes when it begins and ends. */
class SlowDatapath extends MemoryDatapath {
  readonly notes: string[] = [];
  /** The operation that fails. */
  failing = '';

  override discard = (dir: string) => this.#slowly(`discard ${dir}`);
  override grace = () => this.#slowly('grace');

  async #slowly(what: string): Promise<void> {
    this.notes.push(`${what} begins`);
    for (let turn = 0; turn < 5; turn += 1) await setImmediate();
    if (what === this.failing) throw new Error(`${what} fails`);
    this.notes.push(`${what} ends`);
  }
}

describe('steps that run after one another', () => {
  const discards = (...dirs: string[]): Step[] => dirs.map((dir) => ({ ...SAMPLES.discard[0], dir }));
  const grace: Step = { op: 'grace' };

  async function running(steps: readonly Step[], failing = '') {
    const datapath = new SlowDatapath({ bpffs: '/bpffs', interfaces: new Map() });
    datapath.failing = failing;
    const failures = await runAll(steps, { datapath, packages: builtPackages, companions: noCompanions });
    return { notes: datapath.notes, failed: failures.map(({ step }) => step) };
  }

  it('overlap if they are neighbours that may', async () => {
    const { notes, failed } = await running([grace, ...discards('a', 'b'), grace, ...discards('c')]);
    assert.deepEqual(failed, []);
    assert.deepEqual(notes, [
      'grace begins',
      'grace ends',
      'discard a begins',
      'discard b begins',
      'discard a ends',
      'discard b ends',
      'grace begins',
      'grace ends',
      'discard c begins',
      'discard c ends',
    ]);
  });

  it('go on after a failure, but not after a failed grace period', async () => {
    const one = await running([...discards('a', 'b'), grace], 'discard a');
    assert.deepEqual([one.failed, one.notes.at(-1)], [discards('a'), 'grace ends']);
    const other = await running([grace, ...discards('a')], 'grace');
    assert.deepEqual([other.failed, other.notes], [[grace], ['grace begins']]);
  });
});
