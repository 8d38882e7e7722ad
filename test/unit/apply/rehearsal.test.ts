import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { rehearse, type Tools } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { plan } from '../../../src/plan/plan.js';
import { loadingCompanions, selfLoaded } from '../../fault/support-loading.js';
import { builtPackages, desiredAt, planContext, program } from '../../support/chains.js';
import type { Direction } from '../../support/directions.js';
import { reconcile } from '../../support/in-turn.js';

const BPFFS = '/bpffs';
const context = planContext(BPFFS);

/** Rehearses a change of running programs. @returns the visible state of the host, before and after */
async function seenOf(direction: Direction, ...[from, to]: readonly [string, string]) {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const companions = loadingCompanions(datapath, BPFFS);
  const tools: Tools = { datapath, packages: builtPackages, companions };
  const chain = (x: string): DesiredState =>
    desiredAt(
      { iface: 'veth0', direction },
      program('a', 1, { ...selfLoaded({ x }), carryMaps: ['mark_seen'] }, direction),
      program('b', 2, { version: x }, direction),
    );
  await reconcile({ before: NOTHING_DESIRED, desired: chain(from) }, tools, context);
  const look = async () => ({ observed: await datapath.observe(), companions: await companions.observe() });
  const before = await look();
  const planned = plan({ ...before, before: chain(from), desired: chain(to) }, context);
  const { failure } = await rehearse(planned, tools);
  return { planned, failure, before, after: await look() };
}

describe('a rehearsal', () => {
  for (const direction of ['xdpingress', 'ingress', 'egress'] as const) {
    it(`changes nothing, not even the names of a program that its companion loads: ${direction}`, async () => {
      const { planned, failure, before, after } = await seenOf(direction, '1', '2');
      assert.equal(failure, undefined);
      const ops = planned.prepare.map(({ op }) => op);
      assert.ok(ops.includes('make-handover') && ops.includes('load'), ops.join());
      assert.ok(before.observed.publicMaps.size > 0);
      assert.deepEqual(after, before);
    });
  }
});
