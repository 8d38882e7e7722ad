import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tools } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { companionKey } from '../../../src/domain/companion.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { hookAt, standingChain } from '../../../src/domain/observed.js';
import type { Program } from '../../../src/domain/program.js';
import { type PlanInput, plan } from '../../../src/plan/plan.js';
import type { Report } from '../../../src/reconcile/reconcile.js';
import { describeStep } from '../../../src/steps/describe.js';
import type { Plan } from '../../../src/steps/plan.js';
import { loadedBy, loadingCompanions, selfLoaded } from '../../fault/support-loading.js';
import { builtPackages, desiredAt, pathAt, planContext, program } from '../../support/chains.js';
import { HOOK } from '../../support/companions.js';
import { reconcile } from '../../support/in-turn.js';

const BPFFS = '/bpffs';
const context = planContext(BPFFS);
const LOADING = ['fetch', 'check-companion', 'make-handover', 'start-companion', 'capture'];

class Bed {
  readonly datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([[HOOK.iface, 2]]) });
  readonly companions = loadingCompanions(this.datapath, BPFFS);
  readonly tools: Tools = { datapath: this.datapath, packages: builtPackages, companions: this.companions };
  before: DesiredState = NOTHING_DESIRED;

  static async of(...programs: readonly Program[]): Promise<Bed> {
    const bed = new Bed();
    await bed.bring(...programs);
    return bed;
  }

  async plan(programs: readonly Program[], more: Partial<PlanInput> = {}): Promise<Plan> {
    const [observed, companions] = [await this.datapath.observe(), await this.companions.observe()];
    return plan({ observed, companions, before: this.before, desired: desiredAt(HOOK, ...programs), ...more }, context);
  }

  async bring(...programs: readonly Program[]): Promise<Report> {
    const desired = desiredAt(HOOK, ...programs);
    const report = await reconcile({ before: this.before, desired }, this.tools, context);
    assert.deepEqual([report.status, report.faults, report.leftovers], ['applied', [], []]);
    this.before = desired;
    return report;
  }

  /** The programs that packets pass, and those whose companions run and have loaded the standing program. */
  async stands(): Promise<{ path: string[] | undefined; running: string[] }> {
    const observed = await this.datapath.observe();
    const dirs = standingChain(hookAt(observed, HOOK)).map(({ dir }) => dir);
    const running = await this.companions.observe();
    for (const { loaded } of running) assert.ok(loaded !== undefined && dirs.includes(loaded), loaded);
    const names = running.map(({ launch }) => `${launch.package.name}@${launch.package.version.replace('.', '_')}`);
    return { path: pathAt(observed, HOOK), running: names.toSorted() };
  }
}

const ops = (steps: Plan['prepare']) => steps.map(({ op }) => op);

/** How often companions load a program in these steps. */
const loadings = ({ prepare }: Plan) => prepare.filter(({ op }) => op === 'start-companion').length;

test('a program is handed over, captured, and put in place by one write; then nothing is left to do', async () => {
  const bed = await Bed.of(program('b', 2));
  const { prepare, commit, stop, start, cleanup } = await bed.plan([loadedBy('a', 1), program('b', 2)]);
  assert.deepEqual(ops(prepare), [...LOADING, 'link']);
  assert.deepEqual([ops(commit), stop, start, cleanup], [['link'], [], [], []]);
  await bed.bring(loadedBy('a', 1), program('b', 2));
  assert.deepEqual(await bed.stands(), { path: ['a@1_0', 'b@1_0'], running: ['a@1_0'] });
  assert.equal(loadings(await bed.plan([loadedBy('a', 1), program('b', 2)])), 0);
});

test('the old companion is stopped in the cleanup, after the grace period and before its program is unloaded', async () => {
  const bed = await Bed.of(loadedBy('a', 1));
  for (const [wanted, loads, result] of [
    [[loadedBy('a', 1, { version: '2.0' })], 1, ['a@2_0']],
    [[loadedBy('a', 1, { version: '2.0', ...selfLoaded({ x: '1' }) })], 1, ['a@2_0']],
    [[program('a', 1)], 0, []],
    [[loadedBy('a', 1)], 1, ['a@1_0']],
    [[program('b', 1)], 0, []],
  ] as const) {
    const had = (await bed.stands()).running.length > 0;
    const found = await bed.plan(wanted);
    assert.deepEqual([loadings(found), found.stop], [loads, []]);
    const order = ops(found.cleanup);
    assert.deepEqual(order, ['grace', ...(had ? ['stop-companion'] : []), 'discard', 'prove']);
    await bed.bring(...wanted);
    assert.deepEqual((await bed.stands()).running, result);
  }
});

test('two programs in a row are loaded in the order of the chain, and linked when both exist', async () => {
  const bed = new Bed();
  const { prepare } = await bed.plan([loadedBy('a', 1), loadedBy('b', 2)]);
  const starts = prepare.flatMap((step) => (step.op === 'start-companion' ? [step.launch.package.name] : []));
  assert.deepEqual(starts, ['a', 'b']);
  const order = ops(prepare);
  assert.ok(order.indexOf('link') > order.lastIndexOf('capture'));
  await bed.bring(loadedBy('a', 1), loadedBy('b', 2));
  await bed.bring(loadedBy('b', 1), loadedBy('a', 2));
  assert.deepEqual(await bed.stands(), { path: ['b@1_0', 'a@1_0'], running: ['a@1_0', 'b@1_0'] });
});

test('a companion that has ended or loaded another program loads again, unless it is left alone or left to another pass', async () => {
  const bed = await Bed.of(loadedBy('a', 1));
  const again = [loadedBy('a', 1)];
  const found = (await bed.companions.observe())[0]!;
  const key = companionKey(found.launch);
  const ended = { companions: [{ ...found, state: 'ended' as const }] };
  const revival = new Map([[key, { why: 'it has ended', restarts: 3 }]]);
  for (const [more, loads] of [
    [{}, 0],
    [ended, 1],
    [{ companions: [] }, 1],
    [{ ...ended, chainsOnly: true }, 0],
    [{ ...ended, exceptCompanions: new Set([key]) }, 0],
    [{ ...ended, revivals: new Map() }, 0],
    [{ ...ended, revivals: revival }, 1],
  ] as const) {
    assert.equal(loadings(await bed.plan(again, more)), loads, JSON.stringify(more));
  }
  const { prepare, reasons } = await bed.plan(again, { ...ended, revivals: revival });
  const start = prepare.find((step) => step.op === 'start-companion');
  assert.equal(start?.restarts, 3);
  assert.ok(
    reasons.some((reason) => reason.includes('load its program again: it has ended')),
    reasons.join('\n'),
  );

  const observed = await bed.datapath.observe();
  const hooks = observed.hooks.map((at) => ({
    ...at,
    loadedPrograms: at.loadedPrograms.map((one) => (one.name === 'a' ? { ...one, handedOver: 999_999 } : one)),
  }));
  assert.equal(loadings(await bed.plan(again, { observed: { ...observed, hooks } })), 1);
});

test('names are removed before the start, except carried and foreign ones', async () => {
  const bed = await Bed.of(loadedBy('a', 1));
  const folder = `${BPFFS}/${HOOK.iface}/a/1_0`;
  const observed = await bed.datapath.observe();
  const publicMaps = new Map([...observed.publicMaps, [`${folder}/strange`, 999_999]]);
  const anew = [loadedBy('a', 1, { ...selfLoaded({ x: '1' }), carryMaps: ['mark_seen'] })];
  const { prepare } = await bed.plan(anew, { observed: { ...observed, publicMaps } });
  const start = prepare.findIndex(({ op }) => op === 'start-companion');
  const removed = prepare.flatMap((step, at) => (step.op === 'unpublish' && at < start ? [step.path] : []));
  assert.ok(removed.includes(`${folder}/mark_id`), removed.join());
  assert.deepEqual([removed.includes(`${folder}/mark_seen`), removed.includes(`${folder}/strange`)], [false, false]);
  const capture = prepare.find((step) => step.op === 'capture');
  assert.deepEqual(capture?.claim, { folder, except: [`${folder}/strange`] });
  assert.deepEqual(
    capture?.share.map(({ map }) => map),
    ['mark_seen'],
  );
});

test('the proof does not wait for maps that a new version takes over', async () => {
  const bed = await Bed.of(loadedBy('a', 1));
  const before = hookAt(await bed.datapath.observe(), HOOK).loadedPrograms.find(({ name }) => name === 'a');
  const seen = before?.maps.find(({ name }) => name === 'mark_seen')?.id;
  const anew = loadedBy('a', 1, { version: '2.0', carryMaps: ['mark_seen'] });
  const proof = (await bed.plan([anew])).cleanup.find((step) => step.op === 'prove');
  assert.ok(seen !== undefined && proof !== undefined && !proof.maps.includes(seen));
  await bed.bring(anew);
});

test('each step has a description', async () => {
  const { prepare } = await new Bed().plan([loadedBy('a', 1)]);
  const words = prepare.filter(({ op }) => LOADING.slice(1).includes(op)).map(describeStep);
  assert.deepEqual(words, [
    'check the commands of the companion of a 1.0 at veth0/xdpingress',
    'make a slot for the companion of a 1_0 #1 to put its program into',
    'start the companion of a 1.0 at veth0/xdpingress, which loads the program',
    'take over a 1_0 #1 from its companion',
  ]);
});
