import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { MemoryDatapath } from '../../../src/datapath/memory.js';
import { type DesiredState, NOTHING_DESIRED, normalize } from '../../../src/domain/desired.js';
import type { Direction } from '../../../src/domain/hook.js';
import { hookAt, standingChain } from '../../../src/domain/observed.js';
import type { Program } from '../../../src/domain/program.js';
import { type Report, reconcile } from '../../../src/reconcile.js';
import { builtPackages, noCompanions, planContext, program } from '../../support/chains.js';

/*
 * The programs of one name and version at both sides of TC: native/bpf/tc_switch.bpf.c, with the map switch_on that asks to be pinned by
 * its name.
 */

const BPFFS = '/bpffs';
const context = planContext(BPFFS);

const SWITCH = { objectFile: 'tc_switch.bpf.o', entryFunction: 'tc_switch', mapName: 'tc_switch_next' };

type Sides = Partial<Record<'ingress' | 'egress', Partial<Program>>>;

function both(sides: Sides): DesiredState {
  const chains = Object.entries(sides).map(([direction, changes]) => ({
    hook: { iface: 'veth0', direction: direction as Direction },
    programs: [program('switch', 1, { ...SWITCH, ...changes }, 'ingress')],
  }));
  return normalize({ chains, addresses: {} });
}

let datapath: MemoryDatapath;
let before: DesiredState;
beforeEach(() => {
  datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  before = NOTHING_DESIRED;
});

async function change(sides: Sides): Promise<Report> {
  const desired = both(sides);
  const report = await reconcile(
    { before, desired },
    { datapath, packages: builtPackages, companions: noCompanions },
    context,
  );
  assert.notEqual(report.status, 'failed', String(report.cause));
  before = desired;
  return report;
}

/** Ids of the maps that are there: the switch of each side, and what has its public name. */
async function switches(version = '1_0') {
  const observed = await datapath.observe();
  const at = (direction: Direction) => {
    const chain = standingChain(hookAt(observed, { iface: 'veth0', direction }));
    return chain.at(-1)?.maps.find(({ name }) => name === 'switch_on')?.id;
  };
  const named = observed.publicMaps.get(`${BPFFS}/tc/globals/veth0/switch/${version}/switch_on`);
  return { ingress: at('ingress'), egress: at('egress'), named };
}

function assertOne({ ingress, egress, named }: Awaited<ReturnType<typeof switches>>): void {
  assert.ok(ingress !== undefined);
  assert.deepEqual([egress, named], [ingress, ingress]);
}

test('that come together have one map where it asks to be pinned by its name', async () => {
  await change({ ingress: {}, egress: {} });
  assertOne(await switches());
});

test('that come one after the other have one map, whichever was first, and it stays with the one that stays', async () => {
  await change({ egress: {} });
  const { egress } = await switches();

  await change({ ingress: {}, egress: {} });
  assertOne(await switches());
  assert.equal((await switches()).ingress, egress);

  await change({ ingress: {} });
  assert.deepEqual(await switches(), { ingress: egress, egress: undefined, named: egress });
});

test('of which one is loaded anew go on with the map; where both are, they have a new one', async () => {
  await change({ ingress: {}, egress: {} });
  const { named: first } = await switches();

  await change({ ingress: {}, egress: { artifact: 'other.tar.gz' } });
  assertOne(await switches());
  assert.equal((await switches()).named, first);

  await change({ ingress: { artifact: 'third.tar.gz' }, egress: { artifact: 'third.tar.gz' } });
  assertOne(await switches());
  assert.notEqual((await switches()).named, first);
});

test('in other versions have nothing in common, and neither has one whose map_args say what is in its map', async () => {
  await change({ ingress: {}, egress: { version: '2.0' } });
  const { ingress, egress, named } = await switches();
  assert.equal(named, ingress);
  assert.notEqual(egress, ingress);

  const mapArgs = [{ name: 'switch_on', args: [{ key: 0, value: 1 }] }];
  await change({});
  await change({ ingress: {}, egress: { mapArgs } });
  const own = await switches();
  assert.notEqual(own.egress, own.ingress);
});
