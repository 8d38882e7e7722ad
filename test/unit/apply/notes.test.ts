import assert from 'node:assert/strict';
import { it } from 'node:test';
import { apply, rehearse } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { ObjectProgram } from '../../../src/domain/probe.js';
import type { Plan } from '../../../src/steps/plan.js';
import { builtPackages, noCompanions } from '../../support/chains.js';
import { SAMPLES } from '../../support/steps.js';

/** Every object that it loads also has a program that the agent does not attach. */
class MixedDatapath extends MemoryDatapath {
  override async load(): Promise<readonly ObjectProgram[]> {
    return [{ name: 'on_sample', section: 'perf_event' }];
  }
}

it('what people should know is told once, however many steps come upon it', async () => {
  const datapath = new MixedDatapath({ bpffs: '/bpffs', interfaces: new Map() });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const [load] = SAMPLES.load;
  const other = { ...load, ref: { ...load.ref, name: 'other' } };
  const nothing = { commit: [], stop: [], start: [], cleanup: [], outcomes: [], reasons: [] };
  const plan: Plan = { prepare: [load, load, other, load], ...nothing };

  const told = [load, other].map(
    ({ ref }) => `${ref.name}: the agent does not attach on_sample (perf_event) of its object; a companion can`,
  );
  assert.deepEqual((await rehearse(plan, tools)).notes, told);
  assert.deepEqual(await apply(plan, tools), { ok: true, notes: told, leftovers: [] });
});
