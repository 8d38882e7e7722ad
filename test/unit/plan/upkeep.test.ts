import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Generation, MapInfo, Observed } from '../../../src/domain/observed.js';
import { contentDigest } from '../../../src/domain/program.js';
import type { Step } from '../../../src/domain/step.js';
import { lacksMaps } from '../../../src/plan/maps.js';
import { planNames } from '../../../src/plan/names.js';
import { planPins } from '../../../src/plan/pins.js';
import { proofOf } from '../../../src/plan/proof.js';
import { desiredAt, planContext, program } from '../../support/chains.js';

/*
 * What surrounds a change: pins that are made again before, names that move and proofs that are asked for after it.
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

function generation(more: Partial<Generation> = {}): Generation {
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

function observed(generations: readonly Generation[], more: Partial<Observed> = {}): Observed {
  const linkPin = `${BPFFS}/links/veth0/xdp-root/latest/xdpingress`;
  const attachment = {
    kind: 'xdp',
    linkPin,
    linkId: 5,
    programId: generations[0]?.programId ?? 0,
    attached: true,
  } as const;
  const hooks = [{ hook, attachments: [attachment], generations }];
  return { hooks, interfaces: new Map([['veth0', 2]]), publicMaps: new Map(), ...more };
}

describe('what somebody has unpinned', () => {
  const lost = { program: true, maps: [31] };
  const stepsFor = (found: Generation, desired = desiredAt(hook, A)) => planPins(observed([found]), desired, context);

  test('is pinned again where the program is wanted', () => {
    const found = generation({ unpinned: lost });
    assert.deepEqual(stepsFor(found), [{ op: 'repin', dir: found.dir, programId: 10, program: true, maps: [31] }]);
    assert.deepEqual(stepsFor(found, desiredAt(hook)), []);
    assert.deepEqual(stepsFor(found, desiredAt(hook, { ...A, enabled: false })), []);
    assert.deepEqual(stepsFor(generation()), []);
  });

  test('is not looked for among maps that the slot may be one of', () => {
    const found = generation({ unpinned: lost, slot: undefined });
    assert.deepEqual(stepsFor(found), [{ op: 'repin', dir: found.dir, programId: 10, program: true, maps: [] }]);
    assert.deepEqual(stepsFor(generation({ unpinned: { program: false, maps: [20] }, slot: undefined })), []);
  });

  test('of a program without slot is', () => {
    const slotless = program('a', 1, { mapName: '' });
    const found = generation({
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

test('a generation lacks maps that arguments name, by their names as pins', () => {
  const mapArgs = [{ name: 'obj.bss', args: [] }];
  assert.equal(lacksMaps({ maps: [map(1, 'obj_bss')] }, { mapArgs }), false);
  assert.equal(lacksMaps({ maps: [map(1, 'other')] }, { mapArgs }), true);
});

describe('the proof of an unload', () => {
  const one = generation({ unpinned: { program: false, maps: [32] } });
  const two = generation({
    dir: `${one.dir}2`,
    programId: 11,
    slot: { mapId: 21, next: null },
    maps: [map(30), map(33)],
  });
  const discard = (...all: Generation[]): Step[] => all.map(({ dir }) => ({ op: 'discard', dir }));

  test('names program, slot and maps of what is discarded, those included that have lost their pins', () => {
    assert.deepEqual(proofOf(observed([one]), discard(one)), [
      { op: 'prove', programs: [10], maps: [20, 30, 32], links: [] },
    ]);
  });

  test('leaves out maps that a generation which stays has too, or that a load takes over', () => {
    assert.deepEqual(proofOf(observed([one, two]), discard(two)), [
      { op: 'prove', programs: [11], maps: [21, 33], links: [] },
    ]);
    const share = [{ map: 'map_33', pin: `${two.dir}/maps/map_33` }];
    const load = { op: 'load', share } as unknown as Step;
    assert.deepEqual(proofOf(observed([one, two]), [load, ...discard(two)]), [
      { op: 'prove', programs: [11], maps: [21], links: [] },
    ]);
  });

  test('names the link that is detached', () => {
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
      observed([generation({ slot: undefined })], { publicMaps: new Map([[path, holder]]), orphans }),
      BPFFS,
      new Set(),
      () => ({ slotMap: '', hasCompanion: false }),
    );

  test('that a map has which no program uses, and which is like ours, is given to ours', () => {
    assert.deepEqual(named(99, [map(99, 'map_30')]), [{ op: 'publish', pin: `${generation().dir}/maps/map_30`, path }]);
  });

  test("is left to a stranger's map: one that is used, or is of another shape or name", () => {
    assert.deepEqual(named(99, []), []);
    assert.deepEqual(named(99, [{ ...map(99, 'map_30'), valueSize: 4 }]), []);
    assert.deepEqual(named(99, [map(99, 'theirs')]), []);
  });
});
