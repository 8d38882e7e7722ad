import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { apply } from '../../src/apply/executor.js';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED } from '../../src/domain/desired.js';
import { hookAt, standingChain } from '../../src/domain/observed.js';
import { mapPin, slotPin } from '../../src/domain/pins.js';
import type { MapArgs } from '../../src/domain/program.js';
import { plan } from '../../src/plan/plan.js';
import { builtPackages, desiredAt, noCompanions, pathAt, planContext, program } from '../support/chains.js';
import { reconcile } from '../support/in-turn.js';

const BPFFS = '/bpffs';
const hook = { iface: 'veth0', direction: 'xdpingress' } as const;
const abc = desiredAt(hook, program('a', 1), program('b', 2), program('c', 3));

function givenBed() {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const bring = (before: DesiredState | null, desired: DesiredState) =>
    reconcile({ before, desired }, tools, planContext(BPFFS));
  const dirOf = async (name: string) => {
    const loadedPrograms = standingChain(hookAt(await datapath.observe(), hook));
    return loadedPrograms.find((loaded) => loaded.name === name)!.dir;
  };
  return { datapath, tools, bring, dirOf, path: async () => pathAt(await datapath.observe(), hook) };
}

describe('a chain is repaired after somebody', () => {
  for (const name of ['xdp-root', 'a', 'c']) {
    test(`removed the pin of the slot of ${name}`, async () => {
      const bed = givenBed();
      await bed.bring(NOTHING_DESIRED, abc);
      // The kernel empties a slot when its last pin is removed, which cuts the chain there.
      const slot = slotPin(await bed.dirOf(name));
      await bed.datapath.setSlot(slot, null);
      await bed.datapath.unpublish(slot);

      const report = await bed.bring(abc, abc);

      assert.deepEqual(report.faults, []);
      assert.deepEqual(await bed.path(), ['a@1_0', 'b@1_0', 'c@1_0']);
      assert.equal((await bed.bring(abc, abc)).status, 'unchanged');
    });
  }

  test('emptied a slot, and what was cut off keeps its data maps', async () => {
    const bed = givenBed();
    await bed.bring(NOTHING_DESIRED, abc);
    const before = await bed.dirOf('c');
    const [key, value] = ['00000000', '2a00000000000000'];
    await bed.datapath.writeMap(mapPin(before, 'mark_seen'), { set: [{ key, value }], remove: [] });
    await bed.datapath.setSlot(slotPin(await bed.dirOf('a')), null);

    await bed.bring(abc, abc);

    const counter = await bed.datapath.readMap(mapPin(await bed.dirOf('c'), 'mark_seen'), Buffer.from(key, 'hex'));
    assert.equal(Buffer.from(counter!).toString('hex'), value);
    assert.deepEqual(await bed.path(), ['a@1_0', 'b@1_0', 'c@1_0']);
  });
});

test('after a crash during an update, the arguments of the old version do not count for the maps of the new one', async () => {
  const args = (name: string, value: number): MapArgs[] => [{ name, args: [{ key: 0, value }] }];
  const bed = givenBed();
  const old = desiredAt(hook, program('a', 1, { mapArgs: args('mark_id', 1) }));
  const updated = desiredAt(hook, program('a', 1, { version: '2.0', mapArgs: args('mark_id', 1) }));
  // given that the new version runs with other values than the old one, and the journal still has the old one
  await bed.bring(NOTHING_DESIRED, desiredAt(hook, program('a', 1, { version: '2.0', mapArgs: args('mark_id', 9) })));

  await bed.bring(old, updated);

  const value = await bed.datapath.readMap(mapPin(await bed.dirOf('a'), 'mark_id'), Buffer.alloc(4));
  assert.equal(Buffer.from(value!).readUInt32LE(), 1);
});

test('programs that still process packets are not unpinned', async () => {
  const bed = givenBed();
  const other = { iface: 'veth0', direction: 'ingress' } as const;
  const atBoth = (names: readonly string[]): DesiredState => ({
    chains: ([hook, other] as const).flatMap(
      (at) => desiredAt(at, ...names.map((name, n) => program(name, n + 1, {}, at.direction))).chains,
    ),
    addresses: {},
  });
  const [before, desired] = [atBoth(['a', 'b']), atBoth(['x', 'y'])];
  await bed.bring(NOTHING_DESIRED, before);
  const planned = plan({ observed: await bed.datapath.observe(), companions: [], before, desired }, planContext(BPFFS));

  // when the second chain cannot be switched, and the first cannot be switched back
  let flips = 0;
  const result = await apply(planned, bed.tools, (step) => {
    if (step.op === 'link' && step.live && flips++ > 0) throw new Error('injected');
  });

  assert.ok(!result.ok && !result.undone);
  assert.deepEqual(await bed.path(), ['x@1_0', 'y@1_0']);
  const report = await bed.bring(before, before);
  assert.deepEqual(report.faults, []);
  assert.deepEqual(await bed.path(), ['a@1_0', 'b@1_0']);
  assert.equal(hookAt(report.observed, hook).loadedPrograms.length, 3);
});
