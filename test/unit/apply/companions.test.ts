import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { apply, type Observer, type Tools } from '../../../src/apply/executor.js';
import { MemoryCompanions } from '../../../src/companions/memory.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { CompanionLaunch } from '../../../src/domain/companion.js';
import type { Plan } from '../../../src/steps/plan.js';
import type { Step } from '../../../src/steps/step.js';
import { builtPackages } from '../../support/chains.js';
import { SAMPLES } from '../../support/steps.js';

const BPFFS = '/bpffs';

/** Takes a few turns of the event loop to start a companion, and notes how many start at a time. */
class SlowCompanions extends MemoryCompanions {
  starting = 0;
  most = 0;

  override async start(...args: Parameters<MemoryCompanions['start']>): Promise<void> {
    this.starting += 1;
    this.most = Math.max(this.most, this.starting);
    for (let turn = 0; turn < 5; turn += 1) await setImmediate();
    await super.start(...args);
    this.starting -= 1;
  }
}

describe('the companions of one plan', () => {
  let companions: SlowCompanions;
  let tools: Tools;
  beforeEach(() => {
    companions = new SlowCompanions();
    const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
    tools = { datapath, packages: builtPackages, companions };
  });

  function starting(count: number): Plan {
    const [sample] = SAMPLES['start-companion'];
    const launchOf = (index: number): CompanionLaunch => {
      return { ...sample.launch, package: { ...sample.launch.package, name: `p${index}` } };
    };
    const start = Array.from({ length: count }, (_, index): Step => ({ ...sample, launch: launchOf(index) }));
    return { prepare: [], commit: [], stop: [], start, cleanup: [], outcomes: [], reasons: [] };
  }

  it('start side by side', async () => {
    assert.deepEqual(await apply(starting(5), tools), { ok: true, notes: [], leftovers: [] });
    assert.equal(companions.most, 5);
    assert.equal((await companions.observe()).length, 5);
  });

  it('do not all start at once if they are many', async () => {
    assert.equal((await apply(starting(50), tools)).ok, true);
    assert.equal(companions.most, 16);
  });

  it('are all stopped again if one of them does not start, or the agent stops meanwhile', async () => {
    const error = new Error('The agent stops');
    let begun = 0;
    const stopping: Observer = (step, phase) => {
      if (step.op === 'start-companion' && phase !== 'undo') begun += 1;
      if (begun === 18) throw error;
    };

    const result = await apply(starting(20), tools, stopping);

    assert.ok(!result.ok);
    assert.deepEqual([result.failure.error, result.undone], [error, true]);
    assert.deepEqual(await companions.observe(), []);
  });
});
