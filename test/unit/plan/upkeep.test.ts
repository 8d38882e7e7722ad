import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LoadedProgram, MapInfo, Observed } from '../../../src/domain/observed.js';
import { contentDigest } from '../../../src/domain/program.js';
import { lacksMaps } from '../../../src/plan/maps/changes.js';
import { planNames } from '../../../src/plan/maps/names.js';
import { planPins } from '../../../src/plan/maps/pins.js';
import { proofOf } from '../../../src/plan/proof.js';
import type { Step } from '../../../src/steps/step.js';
import { desiredAt, planContext, program } from '../../support/chains.js';
import { SAMPLES } from '../../support/steps.js';

/*
 * What surrounds a change: restored pins before it, moved names and proofs after it.
 */

const BPFFS = '/bpffs';
const hook = { iface: 'veth0', direction: 'xdpingress' } as const;
const A = program('a', 1);
const context = planContext(BPFFS);

const map = (id: number, name = `map_${id}`): MapInfo => ({
  id,
  name,
  type: 1,
  keySize: 4,
  valueSize: 8,
  maxEntries: 16,
});

function loaded(more: Partial<LoadedProgram> = {}): LoadedProgram {
  const digest = contentDigest(A);
  const dir = `${BPFFS}/progs/veth0/a/1_0/xdpingress-${digest}-1`;
  const slot = { mapId: 20, next: null };
  return {
    hook,
    name: 'a',
    versionSegment: '1_0',
    digest,
    serial: 1,
    dir,
    programId: 10,
    slot,
    maps: [map(30)],
    ...more,
  };
}

function observed(loadedPrograms: readonly LoadedProgram[], more: Partial<Observed> = {}): Observed {
  const linkPin = `${BPFFS}/links/veth0/xdp-root/latest/xdpingress`;
  const attachment = {
    kind: 'xdp',
    linkPin,
    linkId: 5,
    programId: loadedPrograms[0]?.programId ?? 0,
    attached: true,
  } as const;
  const hooks = [{ hook, attachments: [attachment], loadedPrograms }];
  return { hooks, interfaces: new Map([['veth0', 2]]), publicMaps: new Map(), ...more };
}

describe('an unpinned object', () => {
  const lost = { program: true, maps: [31] };
  const stepsFor = (found: LoadedProgram, desired = desiredAt(hook, A)) =>
    planPins(observed([found]), desired, context);

  test('is pinned again if its program is desired', () => {
    const found = loaded({ unpinned: lost });
    assert.deepEqual(stepsFor(found), [{ op: 'repin', dir: found.dir, programId: 10, program: true, maps: [31] }]);
    assert.deepEqual(stepsFor(found, desiredAt(hook)), []);
    assert.deepEqual(stepsFor(found, desiredAt(hook, { ...A, enabled: false })), []);
    assert.deepEqual(stepsFor(loaded()), []);
  });

  test('is not restored among maps that may include the slot', () => {
    const found = loaded({ unpinned: lost, slot: undefined });
    assert.deepEqual(stepsFor(found), [{ op: 'repin', dir: found.dir, programId: 10, program: true, maps: [] }]);
    assert.deepEqual(stepsFor(loaded({ unpinned: { program: false, maps: [20] }, slot: undefined })), []);
  });

  test('of a program without slot is restored', () => {
    const slotless = program('a', 1, { mapName: '' });
    const found = loaded({
      unpinned: { program: false, maps: [31] },
      slot: undefined,
      digest: contentDigest(slotless),
    });
    assert.deepEqual(
      stepsFor(found, desiredAt(hook, slotless)).map(({ maps }) => maps),
      [[31]],
    );
  });
});

test('a loaded program lacks maps that map_args name, compared by their pin names', () => {
  const mapArgs = [{ name: 'obj.bss', args: [] }];
  assert.equal(lacksMaps({ maps: [map(1, 'obj_bss')] }, { mapArgs }), false);
  assert.equal(lacksMaps({ maps: [map(1, 'other')] }, { mapArgs }), true);
});

describe('the proof of an unload', () => {
  const one = loaded({ unpinned: { program: false, maps: [32] } });
  const two = loaded({
    dir: `${one.dir}2`,
    programId: 11,
    slot: { mapId: 21, next: null },
    maps: [map(30), map(33)],
  });
  const discard = (...all: LoadedProgram[]): Step[] => all.map(({ dir }) => ({ op: 'discard', dir }));

  test('names program, slot and maps of discarded programs, including maps without pins', () => {
    assert.deepEqual(proofOf(observed([one]), discard(one)), [
      { op: 'prove', programs: [10], maps: [20, 30, 32], links: [] },
    ]);
  });

  test('leaves out maps that a remaining loaded program also uses, or that a load takes over', () => {
    assert.deepEqual(proofOf(observed([one, two]), discard(two)), [
      { op: 'prove', programs: [11], maps: [21, 33], links: [] },
    ]);
    const share = [{ map: 'map_33', pin: `${two.dir}/maps/map_33` }];
    const load: Step = { ...SAMPLES.load[0], share };
    assert.deepEqual(proofOf(observed([one, two]), [load, ...discard(two)]), [
      { op: 'prove', programs: [11], maps: [21], links: [] },
    ]);
  });

  test('names the detached link', () => {
    const at = observed([one]);
    const link = at.hooks[0]!.attachments[0]!.linkPin;
    assert.deepEqual(proofOf(at, [{ op: 'detach', hook, program: '', link, place: null }]), [
      { op: 'prove', programs: [], maps: [], links: [5] },
    ]);
    assert.deepEqual(proofOf(at, []), []);
  });
});

describe('a public name', () => {
  const path = `${BPFFS}/veth0/a/1_0/map_30`;
  const named = (holder: number, orphans: readonly MapInfo[]) =>
    planNames(
      observed([loaded({ slot: undefined })], { publicMaps: new Map([[path, holder]]), orphans }),
      BPFFS,
      new Set(),
      () => ({ slotMap: '', hasCompanion: false }),
    );

  test('is taken over from a map that no program uses and that looks like ours', () => {
    assert.deepEqual(named(99, [map(99, 'map_30')]), [{ op: 'publish', pin: `${loaded().dir}/maps/map_30`, path }]);
  });

  test('is left to a foreign map, which is in use or has another shape or name', () => {
    assert.deepEqual(named(99, []), []);
    assert.deepEqual(named(99, [{ ...map(99, 'map_30'), valueSize: 4 }]), []);
    assert.deepEqual(named(99, [map(99, 'theirs')]), []);
  });
});
