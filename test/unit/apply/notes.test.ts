import assert from 'node:assert/strict';
import { it } from 'node:test';
import { apply, rehearse } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import type { OtherPrograms } from '../../../src/domain/probe.js';
import type { Plan } from '../../../src/steps/plan.js';
import { builtPackages, noCompanions } from '../../support/chains.js';
import { SAMPLES } from '../../support/steps.js';

/** Every object that it loads also has a program that the agent does not attach, or two variants of a probe. */
class MixedDatapath extends MemoryDatapath {
  override async load(): Promise<OtherPrograms> {
    return { probes: [], others: [{ name: 'on_sample', section: 'perf_event' }] };
  }

  override async loadProbes(): Promise<OtherPrograms> {
    const probes = ['fentry', 'kprobe', 'kretprobe'].map((kind) => ({
      name: `by_${kind}`,
      section: `${kind}/do_exit`,
    }));
    return { probes, others: [] };
  }
}

it('what people should know is told once, however many steps come upon it', async () => {
  const datapath = new MixedDatapath({ bpffs: '/bpffs', interfaces: new Map() });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const [[load], [probes]] = [SAMPLES.load, SAMPLES['load-probes']];
  const other = { ...load, ref: { ...load.ref, name: 'other' } };
  const nothing = { commit: [], stop: [], start: [], cleanup: [], outcomes: [], reasons: [] };
  const plan: Plan = { prepare: [load, load, other, load, probes, probes], ...nothing };

  const told = [
    ...[load, other].map(
      ({ ref }) => `${ref.name}: the agent does not attach on_sample (perf_event) of its object; a companion can`,
    ),
    `${probes.probes.name}: by_fentry (fentry/do_exit), by_kprobe (kprobe/do_exit) see the same event, each once; if they are variants of one probe, choose one with entry_function_name, or leave the others out with SEC("?…")`,
  ];
  assert.deepEqual((await rehearse(plan, tools)).notes, told);
  assert.deepEqual(await apply(plan, tools), { ok: true, notes: told, leftovers: [] });
});
