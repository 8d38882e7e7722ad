import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { NOTHING_DESIRED } from '../../src/domain/desired.js';
import type { ChainHook } from '../../src/domain/hook.js';
import { hookAt } from '../../src/domain/observed.js';
import type { Direction } from '../support/directions.js';
import { repeats } from '../support/repeats.js';
import { assertStands, type CrashBed, hostOf, log } from './support-crash.js';
import { assertHealed, assertOldOrNew, type Fault, failing, type Transition } from './support-faults.js';
import { loadingCompanions } from './support-loading.js';
import { selfLoadingAt } from './support-self-loading.js';
import { transitionsAt } from './support-transitions.js';

const BPFFS = '/bpffs';
/** Each operation fails before and after its effect; in a short run, one of both in turn. */
const BOTH = repeats({ usual: 1, full: 2 }) === 2;
/** After each first failure, every second failure is tried; in a short run, only one of this many. */
const STEP = repeats({ usual: 4, full: 1 });

type Hooks = readonly [ChainHook, ChainHook];

function hooksAt(...[first, second]: readonly [Direction, Direction]): Hooks {
  return [
    { iface: 'veth0', direction: first },
    { iface: 'veth0', direction: second },
  ];
}

/** A bed in the state before the transition. */
async function givenBed(hooks: Hooks, { chaining, before }: Transition): Promise<CrashBed> {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const bed = { datapath, bpffs: BPFFS, hooks, companions: loadingCompanions(datapath, BPFFS) };
  const report = await hostOf(bed, datapath, chaining).apply(NOTHING_DESIRED, before, log);
  assert.deepEqual([report.faults, report.leftovers], [[], []]);
  return bed;
}

const APART = hooksAt('xdpingress', 'egress');
/** These two hooks share the directory of their public names. */
const TOGETHER = hooksAt('ingress', 'egress');

function assertEachFault(hooks: Hooks, what: string, faultsAt: (at: number) => readonly Fault[]): void {
  const transition = { ...transitionsAt(hooks), ...selfLoadingAt(hooks) }[what]!;
  test(what, async () => {
    let bed = await givenBed(hooks, transition);
    for (let at = 0, more = true; more; at += 1) {
      for (const fault of faultsAt(at)) {
        const outcome = await failing(bed, transition, fault);
        const stands = await assertOldOrNew(bed, transition, outcome);
        if (stands !== transition.before) bed = await givenBed(hooks, transition);
        more = outcome.struck > 0;
        assert.ok(more || at > 0, 'no operation at all');
      }
    }
  });
}

describe('if any one operation fails, the chains are as before or as desired, and the answer says which:', () => {
  for (const what of Object.keys({ ...transitionsAt(APART), ...selfLoadingAt(APART) })) {
    const before = (at: number): Fault => ({ at, done: false, transient: at % 4 < 2 });
    const after = (at: number): Fault => ({ at, done: true });
    assertEachFault(APART, what, (at) =>
      [before, after].filter((_, n) => BOTH || at % 2 === n).map((fault) => fault(at)),
    );
  }
});

/** At least one change of each kind that packets notice: slots, links, values. */
const KINDS = [
  'a first deploy on an empty host',
  'a removal of all from all hooks',
  'everything at once',
  'a change of values that adds, alters and removes keys',
  'a new version that takes tables over',
  'another program with chaining off',
  'a chain with several links',
];

describe('the same if two chains share the directory of their public names:', () => {
  for (const what of KINDS) assertEachFault(TOGETHER, what, (at) => [{ at, done: at % 2 === 0 }]);
});

describe('if an operation fails, and another one during the roll-back, the answer says what is left, and the next repair fixes it:', () => {
  for (const what of KINDS) {
    const transition = transitionsAt(TOGETHER)[what]!;
    test(what, async () => {
      const bed = await givenBed(TOGETHER, transition);
      let stuck = 0;
      for (let at = 0, failed = true; failed; at += 1) {
        for (let next = 0, both = true; failed && both; next += STEP) {
          const fault: Fault = { at, done: (at + next) % 2 === 0, second: { at: next, done: next % 3 === 0 } };
          const outcome = await failing(bed, transition, fault);
          both = outcome.struck > 1;
          failed = outcome.report.status === 'failed';
          if (failed) await assertHealed(bed, transition, outcome);
          if (outcome.answer.undone === false) stuck += 1;
        }
      }
      assert.ok(stuck > 0, 'nothing that could not be taken back');
    });
  }
});

test('after a transient fault the command is retried and applied as if there had been no fault', async () => {
  const transition = transitionsAt(APART)['everything at once']!;
  const tries = Array.from({ length: 12 }, async (_, at) => {
    const bed = await givenBed(APART, transition);
    const outcome = await failing(bed, transition, { at, done: at % 2 === 0, transient: true }, PATIENT);
    assert.deepEqual([outcome.struck, outcome.answer.status, outcome.answer.message], [1, 'applied', undefined]);
    await assertOldOrNew(bed, transition, { ...outcome, struck: 0 });
  });
  await Promise.all(tries);
});

/** Lets the host retry. */
const PATIENT = Number.POSITIVE_INFINITY;

test('programs that packets may still be inside of are not unpinned if the grace period was interrupted', async () => {
  const transition = transitionsAt(APART)['a new version']!;
  const bed = await givenBed(APART, transition);
  const before = hookAt(await bed.datapath.observe(), APART[0]).loadedPrograms.map(({ dir }) => dir);
  const grace = bed.datapath.grace.bind(bed.datapath);
  bed.datapath.grace = () => Promise.reject(new Error('interrupted'));

  const report = await hostOf(bed, bed.datapath, true).apply(transition.before, transition.desired, log);

  assert.deepEqual([report.status, report.leftovers.length], ['applied', 1]);
  const pinned = hookAt(report.observed, APART[0]).loadedPrograms.map(({ dir }) => dir);
  assert.deepEqual(
    before.filter((dir) => !pinned.includes(dir)),
    [],
  );
  bed.datapath.grace = grace;
  await hostOf(bed, bed.datapath, true).repair(transition.desired, log);
  await assertStands(bed, transition.desired);
});
