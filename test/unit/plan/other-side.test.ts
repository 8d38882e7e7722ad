import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED, normalize } from '../../../src/domain/desired.js';
import { hookAt, standingChain } from '../../../src/domain/observed.js';
import type { Program } from '../../../src/domain/program.js';
import type { Report } from '../../../src/reconcile/reconcile.js';
import { builtPackages, noCompanions, planContext, program } from '../../support/chains.js';
import type { Direction } from '../../support/directions.js';
import { reconcile } from '../../support/in-turn.js';

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

/** Ids of the existing maps: the switch of each side, and the map with its public name. */
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

test('that are loaded together share a map that asks to be pinned by its name', async () => {
  await change({ ingress: {}, egress: {} });
  assertOne(await switches());
});

test('that are loaded one after the other share the map, in either order, and the remaining program keeps it', async () => {
  await change({ egress: {} });
  const { egress } = await switches();

  await change({ ingress: {}, egress: {} });
  assertOne(await switches());
  assert.equal((await switches()).ingress, egress);

  await change({ ingress: {} });
  assert.deepEqual(await switches(), { ingress: egress, egress: undefined, named: egress });
});

test('keep the map if one of them is loaded again; if both are, they get a new one', async () => {
  await change({ ingress: {}, egress: {} });
  const { named: first } = await switches();

  await change({ ingress: {}, egress: { artifact: 'other.tar.gz' } });
  assertOne(await switches());
  assert.equal((await switches()).named, first);

  await change({ ingress: { artifact: 'third.tar.gz' }, egress: { artifact: 'third.tar.gz' } });
  assertOne(await switches());
  assert.notEqual((await switches()).named, first);
});

test('share nothing if their versions differ, or if map_args set the contents of the map', async () => {
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
