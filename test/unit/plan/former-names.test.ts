import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChainHook } from '../../../src/domain/hook.js';
import type { LoadedProgram, MapInfo, Observed } from '../../../src/domain/observed.js';
import { planNames } from '../../../src/plan/maps/names.js';

/*
 * The names that maps had before l3afd's paths contained program and version: <iface>/<map>, tc/globals/<iface>/<map>.
 */

const BPFFS = '/bpffs';
const XDP: ChainHook = { iface: 'eth0.1', direction: 'xdpingress' };
const INGRESS: ChainHook = { iface: 'veth0', direction: 'ingress' };
const EGRESS: ChainHook = { iface: 'veth0', direction: 'egress' };

const map = (id: number, name: string): MapInfo => ({ id, name, type: 1, keySize: 4, valueSize: 8, maxEntries: 1 });

/** The program with this id. It is alone at its hook unless another one follows. */
function running(hook: ChainHook, programId: number, more: Partial<LoadedProgram> = {}): LoadedProgram {
  return {
    hook,
    name: `p${programId}`,
    versionSegment: '1_0',
    digest: 'd'.repeat(16),
    serial: 1,
    dir: `${BPFFS}/progs/x/p${programId}`,
    programId,
    slot: { mapId: programId + 1, next: null },
    maps: [map(programId + 2, 'count')],
    ...more,
  };
}

function observed(loadedPrograms: readonly LoadedProgram[], names: Record<string, number> = {}): Observed {
  const hooks = [XDP, INGRESS, EGRESS].map((hook) => {
    const own = loadedPrograms.filter((loaded) => loaded.hook === hook);
    const entry = { kind: 'tcx', linkPin: `${BPFFS}/links/x`, linkId: 5, attached: true } as const;
    const attachments = own.slice(0, 1).map(({ programId = 0 }) => ({ ...entry, programId }));
    return { hook, attachments, loadedPrograms: own };
  });
  return { hooks, interfaces: new Map(), publicMaps: new Map(Object.entries(names)) };
}

/** Changes of former names: `+` or `-` and the path below bpffs; for a new name also the program. */
function changes(at: Observed, options: { companion?: boolean; doomed?: string } = {}): string[] {
  const { companion = true, doomed = '' } = options;
  const naming = () => ({ slotMap: 'next', hasCompanion: companion });
  return planNames(at, BPFFS, new Set([doomed]), naming).flatMap((step) => {
    assert.ok(step.op === 'publish' || step.op === 'unpublish');
    const path = step.path.slice(BPFFS.length + 1);
    if (path.includes('/1_0/')) return [];
    return step.op === 'unpublish' ? [`- ${path}`] : [`+ ${path} ${/p\d+/.exec(step.pin)?.[0]}`];
  });
}

test('only maps of a program with a companion have them', () => {
  const both = observed([running(XDP, 10), running(EGRESS, 20)]);
  assert.deepEqual(changes(both), [
    '+ eth0%2E1/count p10',
    '+ eth0%2E1/next p10',
    '+ tc/globals/veth0/count p20',
    '+ tc/globals/veth0/next p20',
  ]);
  assert.deepEqual(changes(both, { companion: false }), []);
});

test('they follow the live loaded program, and are removed with the last one', () => {
  const names = { [`${BPFFS}/tc/globals/veth0/count`]: 22, [`${BPFFS}/tc/globals/veth0/next`]: 21 };
  const [old, fresh] = [running(EGRESS, 20), running(EGRESS, 40, { name: 'p20' })];
  assert.deepEqual(changes(observed([old], names)), []);
  assert.deepEqual(changes(observed([fresh, old], names), { doomed: old.dir }), [
    '+ tc/globals/veth0/count p40',
    '+ tc/globals/veth0/next p40',
  ]);
  assert.deepEqual(changes(observed([old], names), { doomed: old.dir }), [
    '- tc/globals/veth0/count',
    '- tc/globals/veth0/next',
  ]);
  assert.deepEqual(changes(observed([old], names), { companion: false }), [
    '- tc/globals/veth0/count',
    '- tc/globals/veth0/next',
  ]);
});

test('a temporary name of an agent that died while it set one is removed', () => {
  const names = { [`${BPFFS}/tc/globals/veth0/count%new`]: 22 };
  assert.deepEqual(changes(observed([running(EGRESS, 20)], names), { companion: false }), [
    '- tc/globals/veth0/count%new',
  ]);
});

test('if two programs would have the same name, neither gets it; both sides of TC count as one program', () => {
  const first = running(INGRESS, 20, { slot: { mapId: 21, next: 30 } });
  const second = running(INGRESS, 30, { slot: { mapId: 31, next: null } });
  assert.deepEqual(changes(observed([first, second])), []);
  const sides = [running(INGRESS, 20), running(EGRESS, 50, { name: 'p20' })];
  assert.deepEqual(changes(observed(sides)), ['+ tc/globals/veth0/count p20', '+ tc/globals/veth0/next p20']);
});

test("no name is set in the place of a program's folder", () => {
  const called = running(XDP, 10, { name: 'count' });
  assert.deepEqual(changes(observed([called])), ['+ eth0%2E1/next p10']);
  const inTheWay = `${BPFFS}/eth0%2E1/count`;
  const naming = () => ({ slotMap: 'next', hasCompanion: true });
  const [first] = planNames(observed([called], { [inTheWay]: 12 }), BPFFS, new Set(), naming);
  assert.deepEqual(first, { op: 'unpublish', path: inTheWay });
});

test('names that a companion or somebody else has made are left alone', () => {
  const path = `${BPFFS}/tc/globals/veth0/count`;
  assert.deepEqual(changes(observed([running(EGRESS, 20, { handedOver: 20 })], { [path]: 22 })), []);
  assert.deepEqual(changes(observed([running(EGRESS, 20)], { [path]: 99 })), ['+ tc/globals/veth0/next p20']);
  const own = { [`${BPFFS}/tc/globals/veth0/mine`]: 22 };
  assert.deepEqual(changes(observed([running(EGRESS, 20)], own), { companion: false }), []);
});
