import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NOTHING_DESIRED } from '../../../src/domain/desired.js';
import type { LoadedProbes, Observed } from '../../../src/domain/observed.js';
import { probesDir } from '../../../src/domain/pins.js';
import { contentDigest, type Program } from '../../../src/domain/program.js';
import { isEmpty, plan } from '../../../src/plan/plan.js';
import { describeStep } from '../../../src/steps/describe.js';
import type { Plan } from '../../../src/steps/plan.js';
import { planContext, program } from '../../support/chains.js';

const BPFFS = '/bpf';
const CONTEXT = planContext(BPFFS);

const probe = (name: string, changes: Partial<Program> = {}): Program => program(name, 0, { mapName: '', ...changes });

/** A pinned load of a probe. */
function pinned(wanted: Program, serial = 1, changes: Partial<LoadedProbes> = {}): LoadedProbes {
  const { name, version } = wanted;
  const digest = contentDigest(wanted);
  return {
    name,
    versionSegment: version.replaceAll('.', '_'),
    digest,
    serial,
    dir: probesDir(BPFFS, { name, version, digest, serial }),
    probes: [{ function: 'on_event', programId: 100 + serial, linkId: 200 + serial }],
    maps: [{ name: 'counts', id: 300, type: 1, keySize: 4, valueSize: 8, maxEntries: 1 }],
    lostMaps: [],
    ...changes,
  };
}

function planned(standing: readonly LoadedProbes[], before: readonly Program[], probes: readonly Program[]): Plan {
  const observed: Observed = { hooks: [], interfaces: new Map(), publicMaps: new Map(), probes: standing };
  const [old, desired] = [before, probes].map((list) => ({ ...NOTHING_DESIRED, probes: list }));
  return plan({ observed, before: old!, desired: desired!, companions: [] }, CONTEXT);
}

const words = ({ prepare, commit, cleanup }: Plan) => [...prepare, ...commit, ...cleanup].map(describeStep);
const results = ({ outcomes }: Plan) => outcomes.map(({ name, result }) => `${name} ${result}`);

describe('the plan for probes', () => {
  it('loads new probes, and none that already run', () => {
    const [a, b] = [probe('a'), probe('b')];
    const it = planned([pinned(a)], [a], [a, b]);
    assert.deepEqual(words(it), ['fetch package b 1.0 (mark.tar.gz)', 'load the probes of b 1.0 and attach them']);
    assert.deepEqual(results(it), ['a unchanged', 'b started']);
    assert.ok(isEmpty(planned([pinned(a)], [a], [a])));
  });

  it('attaches another version before the old one is removed, and proves that the old one is gone', () => {
    const [old, next] = [probe('a'), probe('a', { version: '2.0' })];
    const it = planned([pinned(old)], [old], [next]);
    assert.deepEqual(words(it).slice(1), [
      'load the probes of a 2.0 and attach them',
      'unload a 1_0 #1',
      'see 1 program, 1 map, 1 link gone from the kernel',
    ]);
    assert.deepEqual(results(it), ['a updated']);
    const [proof] = it.cleanup.filter((step) => step.op === 'prove');
    assert.deepEqual(proof, { op: 'prove', programs: [101], maps: [300], links: [201] });
  });

  it('loads probes with a lost link again on their maps, and keeps these maps out of the proof', () => {
    const a = probe('a');
    const broken = pinned(a, 1, { probes: [{ function: 'on_event', programId: 101, linkId: undefined }] });
    const it = planned([broken], [a], [a]);
    assert.deepEqual(words(it).slice(1), [
      'load the probes of a 1.0 and attach them, keeping its data maps',
      'unload a 1_0 #1',
      'see 1 program gone from the kernel',
    ]);
    assert.deepEqual(results(it), ['a unchanged']);
  });

  it('removes undesired and disabled probes, and what a crash has left', () => {
    const a = probe('a');
    const torso = pinned(probe('c'), 1, { probes: [], maps: [] });
    const it = planned([pinned(a), torso], [a], [{ ...a, enabled: false }]);
    assert.deepEqual(words(it), [
      'unload a 1_0 #1',
      'unload c 1_0 #1',
      'see 1 program, 1 map, 1 link gone from the kernel',
    ]);
    assert.deepEqual(results(it), ['a disabled']);
    assert.deepEqual(results(planned([pinned(a)], [a], [])), ['a stopped']);
  });

  it('does not take over the maps of an interrupted load', () => {
    const a = probe('a');
    const it = planned([pinned(a, 1, { probes: [] })], [], [a]);
    assert.ok(words(it).includes('load the probes of a 1.0 and attach them'));
  });
});
