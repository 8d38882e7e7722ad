import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, type Tools } from '../../../src/apply/executor.js';
import { MemoryCompanions } from '../../../src/companions/memory.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { companionKey } from '../../../src/domain/companion.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { hookAt } from '../../../src/domain/observed.js';
import type { Program } from '../../../src/domain/program.js';
import { plan } from '../../../src/plan/plan.js';
import type { ReconcileRequest, Report } from '../../../src/reconcile/reconcile.js';
import { describeStep } from '../../../src/steps/describe.js';
import type { Plan } from '../../../src/steps/plan.js';
import { builtPackages, desiredAt, pathAt, planContext, program } from '../../support/chains.js';
import { launchOf } from '../../support/companions.js';
import { reconcile } from '../../support/in-turn.js';

const BPFFS = '/bpffs';
const hook: ChainHook = { iface: 'veth0', direction: 'xdpingress' };
const context = planContext(BPFFS);

const watched = (name: string, seqId: number, companion = {}, overrides: Partial<Program> = {}): Program =>
  program(name, seqId, { companion: launchOf(companion).companion, ...overrides });

class Bed {
  readonly datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  readonly companions = new MemoryCompanions();
  readonly tools: Tools = { datapath: this.datapath, packages: builtPackages, companions: this.companions };
  before: DesiredState = NOTHING_DESIRED;

  async plan(...programs: readonly Program[]): Promise<Plan> {
    const [observed, companions] = [await this.datapath.observe(), await this.companions.observe()];
    return plan({ observed, companions, before: this.before, desired: desiredAt(hook, ...programs) }, context);
  }

  /** The steps of a plan for companions, in words. */
  async steps(...programs: readonly Program[]): Promise<string[]> {
    const { stop, start } = await this.plan(...programs);
    return [...stop, ...start].map(describeStep);
  }

  async bring(...programs: readonly Program[]): Promise<Report> {
    const desired = desiredAt(hook, ...programs);
    const report = await reconcile({ before: this.before, desired }, this.tools, context);
    if (report.status !== 'failed') this.before = desired;
    return report;
  }

  async reconcile(request: Omit<ReconcileRequest, 'before' | 'desired'> = {}): Promise<Report> {
    return reconcile({ ...request, before: this.before, desired: this.before }, this.tools, context);
  }

  async running(): Promise<string[]> {
    const found = await this.companions.observe();
    return found.map(({ launch, state }) => `${companionKey(launch)} ${launch.package.version} ${state}`).toSorted();
  }
}

test('a companion is started and stopped with its program, also if the program is disabled', async () => {
  const bed = new Bed();
  const report = await bed.bring(watched('a', 1), program('b', 2), watched('c', 3, { daemon: false }));
  assert.ok(report.reasons.includes('veth0/xdpingress: starts the companion of a'));
  assert.deepEqual(await bed.running(), ['veth0/xdpingress/a 1.0 running', 'veth0/xdpingress/c 1.0 done']);
  assert.deepEqual(await bed.steps(watched('a', 1), program('b', 2), watched('c', 3, { daemon: false })), []);
  await bed.bring(watched('a', 1, {}, { enabled: false }), program('b', 2));
  assert.deepEqual(await bed.running(), []);
});

test('a companion keeps running through a reorder, an insertion and a removal around it', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1), program('b', 2));
  for (const programs of [
    [program('b', 1), watched('a', 2)],
    [program('x', 0), program('b', 1), watched('a', 2), program('y', 3)],
    [watched('a', 2)],
  ]) {
    assert.deepEqual(await bed.steps(...programs), []);
    await bed.bring(...programs);
  }
});

test('a change of a companion does only what is needed', async () => {
  const bed = new Bed();
  const launch = { cmdUpdate: 'set', updateArgs: { rate: '1' } };
  await bed.bring(watched('a', 1, launch));
  const again = ['stop the companion of a 1.0 at veth0/xdpingress', 'start the companion of a 1.0 at veth0/xdpingress'];
  for (const [change, steps] of [
    [{ cpuSeconds: 3 }, again],
    [{ daemon: false }, again],
    [{ updateArgs: { rate: '2' } }, ['update the companion of a 1.0 at veth0/xdpingress']],
    [{ configArgs: { x: '1' } }, ['update the companion of a 1.0 at veth0/xdpingress']],
    [{ cmdStop: 'halt' }, ['update the companion of a 1.0 at veth0/xdpingress']],
  ] as const) {
    const programs = [watched('a', 1, { ...launch, ...change })];
    assert.deepEqual(await bed.steps(...programs), steps, JSON.stringify(change));
    const { prepare, commit, cleanup, outcomes } = await bed.plan(...programs);
    assert.deepEqual([prepare.map(({ op }) => op), commit, cleanup], [['fetch', 'check-companion'], [], []]);
    assert.deepEqual(
      outcomes.map(({ result }) => result),
      ['updated'],
    );
  }
});

test('a companion that is told other things begins anew with its program, except for maps that are carried', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1), program('b', 2));
  const mapsOf = async (name: string) => {
    const { loadedPrograms } = hookAt(await bed.datapath.observe(), hook);
    return new Map(loadedPrograms.find((one) => one.name === name)?.maps.map((map) => [map.name, map.id]));
  };
  for (const told of [{ startArgs: { x: '1' } }, { rules: 'x', rulesFile: 'y' }, { cmdStart: 'other' }]) {
    const [before, neighbour] = [await mapsOf('a'), await mapsOf('b')];
    const [carried = '', ...others] = [...before.keys()];
    const programs = [watched('a', 1, told, { carryMaps: [carried] }), program('b', 2)];
    const steps = [
      'stop the companion of a 1.0 at veth0/xdpingress',
      'start the companion of a 1.0 at veth0/xdpingress',
    ];
    assert.deepEqual(await bed.steps(...programs), steps, JSON.stringify(told));

    const { outcomes } = await bed.bring(...programs);

    const results = outcomes.map(({ name, result }) => [name, result]);
    assert.deepEqual(new Map(results as [string, string][]).get('a'), 'updated');
    const after = await mapsOf('a');
    assert.equal(after.get(carried), before.get(carried));
    for (const name of others) assert.notEqual(after.get(name), before.get(name), name);
    assert.deepEqual(await mapsOf('b'), neighbour);
    assert.deepEqual(await bed.steps(...programs), [], 'once');
  }
});

test('a new version gets a new companion, which is started after the old one was stopped', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1));
  assert.deepEqual(await bed.steps(watched('a', 1, {}, { version: '2.0' })), [
    'stop the companion of a 1.0 at veth0/xdpingress',
    'start the companion of a 2.0 at veth0/xdpingress',
  ]);
});

test('a companion whose program gets new maps is started again, since it holds the old ones', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1));
  const maps = (await bed.companions.observe())[0]?.maps ?? [];
  assert.ok(maps.length > 0);
  // The program is removed by hand. The repair loads it with new maps.
  const at = hookAt(await bed.datapath.observe(), hook);
  await bed.datapath.detach(hook, at.attachments[0]!.linkPin);
  for (const { dir } of at.loadedPrograms) await bed.datapath.discard(dir);
  const { reasons } = await bed.reconcile();
  assert.ok(reasons.some((reason) => /starts the companion of a again, since its program gets new maps/.test(reason)));
  assert.notDeepEqual((await bed.companions.observe())[0]?.maps, maps);
  assert.deepEqual((await bed.plan(...bed.before.chains[0]!.programs)).start, []);
});

test('a repair can leave companions for later, except those of removed programs', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1));
  await bed.companions.stop(launchOf({}, 'a', hook));
  await bed.companions.start(launchOf({}, 'gone', hook), [], 0);
  const first = await bed.reconcile({ chainsOnly: true });
  assert.deepEqual(first.reasons, ['veth0/xdpingress: stops the companion of gone']);
  assert.deepEqual((await bed.reconcile()).reasons, ['veth0/xdpingress: starts the companion of a']);
});

test('whatever step fails, companions and chain are both as before', async () => {
  const [from, to] = [
    [watched('a', 1), watched('b', 2), watched('d', 3, { updateArgs: { x: '1' } })],
    [
      watched('b', 1, { startArgs: { x: '1' } }),
      watched('a', 2, {}, { version: '2.0' }),
      watched('c', 3),
      watched('d', 4),
    ],
  ];
  const { prepare, commit, stop, start } = await (async () => {
    const bed = new Bed();
    await bed.bring(...from);
    return bed.plan(...to);
  })();
  const count = [prepare, commit, stop, start].flat().length;
  assert.ok(stop.length > 1 && start.length > 2);
  for (let failing = 0; failing < count; failing += 1) {
    const bed = new Bed();
    await bed.bring(...from);
    const before = { running: await bed.running(), names: [...(await bed.datapath.observe()).publicMaps] };
    let step = 0;
    const result = await reconcileFailing(bed, to, (phase) => {
      if (phase === 'undo' || phase === 'cleanup') return;
      if (step++ === failing) throw new Error('injected');
    });
    assert.equal(result.status, 'failed');
    assert.equal(result.undone, true, JSON.stringify(result.leftovers));
    const observed = await bed.datapath.observe();
    assert.deepEqual(await bed.running(), before.running, `when step ${failing} fails`);
    assert.deepEqual(pathAt(observed, hook), ['a@1_0', 'b@1_0', 'd@1_0']);
    assert.deepEqual([...observed.publicMaps].toSorted(), before.names.toSorted());
  }
});

function reconcileFailing(bed: Bed, programs: readonly Program[], fail: (phase: string) => void): Promise<Report> {
  const request = { before: bed.before, desired: desiredAt(hook, ...programs) };
  return reconcile(request, bed.tools, context, (_step, phase) => fail(phase));
}

test('after a rollback, the old companion is started when the chain and its names are as before', async () => {
  const bed = new Bed();
  await bed.bring(watched('a', 1));
  const order: string[] = [];
  const planned = await bed.plan(watched('a', 1, {}, { version: '2.0' }));
  const tools: Tools = {
    ...bed.tools,
    companions: {
      observe: () => bed.companions.observe(),
      check: (launch) => bed.companions.check(launch),
      stop: (launch) => bed.companions.stop(launch),
      update: (from, to) => bed.companions.update(from, to),
      status: (companion) => bed.companions.status(companion),
      async start(launch, maps, restarts) {
        order.push(`start ${launch.package.version} at ${pathAt(await bed.datapath.observe(), hook)}`);
        if (launch.package.version === '2.0') throw new Error('it does not start');
        await bed.companions.start(launch, maps, restarts);
      },
    },
  };
  const result = await apply(
    planned,
    tools,
    () => {},
    async (undoing) => {
      order.push(undoing ? 'names as before' : 'names of the new');
      return [];
    },
  );
  assert.equal(result.ok, false);
  assert.deepEqual(order, ['names of the new', 'start 2.0 at a@2_0', 'names as before', 'start 1.0 at a@1_0']);
  assert.deepEqual(await bed.running(), ['veth0/xdpingress/a 1.0 running']);
});
