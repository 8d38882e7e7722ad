import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDatapath } from '../../src/datapath/memory.js';
import { NOTHING_DESIRED } from '../../src/domain/desired.js';
import type { Direction, Hook } from '../../src/domain/hook.js';
import { hookAt } from '../../src/domain/observed.js';
import { assertStands, type CrashBed, hostOf, log } from './support-crash.js';
import { assertHealed, assertOldOrNew, type Fault, failing, type Transition } from './support-faults.js';
import { loadingCompanions } from './support-loading.js';
import { selfLoadingAt } from './support-self-loading.js';
import { transitionsAt } from './support-transitions.js';

const BPFFS = '/bpffs';

type Hooks = readonly [Hook, Hook];

function hooksAt(...[first, second]: readonly [Direction, Direction]): Hooks {
  return [
    { iface: 'veth0', direction: first },
    { iface: 'veth0', direction: second },
  ];
}

/** A bed on which the state before a transition stands. */
async function givenBed(hooks: Hooks, { chaining, before }: Transition): Promise<CrashBed> {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const bed = { datapath, bpffs: BPFFS, hooks, companions: loadingCompanions(datapath, BPFFS) };
  const report = await hostOf(bed, datapath, chaining).apply(NOTHING_DESIRED, before, log);
  assert.deepEqual([report.faults, report.leftovers], [[], []]);
  return bed;
}

const APART = hooksAt('xdpingress', 'egress');
/** These two share the directory of their public names. */
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

describe('with any one operation failing, the chains are as before or as wanted, and the answer says which:', () => {
  for (const what of Object.keys({ ...transitionsAt(APART), ...selfLoadingAt(APART) })) {
    assertEachFault(APART, what, (at) => [
      { at, done: false, transient: at % 2 === 0 },
      { at, done: true },
    ]);
  }
});

/** One of each kind of change to what packets notice: slots, links, values. */
const KINDS = [
  'a first deploy on an empty host',
  'a removal of all from all hooks',
  'everything at once',
  'a change of values that adds, alters and removes keys',
  'a new version that takes tables over',
  'another program with chaining off',
  'a chain that hangs by several links',
];

describe('the same where two chains share the directory of their public names:', () => {
  for (const what of KINDS) assertEachFault(TOGETHER, what, (at) => [{ at, done: at % 2 === 0 }]);
});

describe('with an operation failing, and another one while the first is taken back, the answer says what is left, and the next look heals it:', () => {
  for (const what of KINDS) {
    const transition = transitionsAt(TOGETHER)[what]!;
    test(what, async () => {
      const bed = await givenBed(TOGETHER, transition);
      let stuck = 0;
      for (let at = 0, failed = true; failed; at += 1) {
        for (let next = 0, both = true; failed && both; next += 1) {
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

test('a fault that passes is tried again, and the command is applied as if there had been none', async () => {
  const transition = transitionsAt(APART)['everything at once']!;
  const tries = Array.from({ length: 12 }, async (_, at) => {
    const bed = await givenBed(APART, transition);
    const outcome = await failing(bed, transition, { at, done: at % 2 === 0, transient: true }, PATIENT);
    assert.deepEqual([outcome.struck, outcome.answer.status, outcome.answer.message], [1, 'applied', undefined]);
    await assertOldOrNew(bed, transition, { ...outcome, struck: 0 });
  });
  await Promise.all(tries);
});

/** Lets the host try again. */
const PATIENT = Number.POSITIVE_INFINITY;

test('what packets may still be inside of is not unpinned after a grace period that did not come to its end', async () => {
  const transition = transitionsAt(APART)['a new version']!;
  const bed = await givenBed(APART, transition);
  const before = hookAt(await bed.datapath.observe(), APART[0]).generations.map(({ dir }) => dir);
  const grace = bed.datapath.grace.bind(bed.datapath);
  bed.datapath.grace = () => Promise.reject(new Error('interrupted'));

  const report = await hostOf(bed, bed.datapath, true).apply(transition.before, transition.desired, log);

  assert.deepEqual([report.status, report.leftovers.length], ['applied', 1]);
  const pinned = hookAt(report.observed, APART[0]).generations.map(({ dir }) => dir);
  assert.deepEqual(
    before.filter((dir) => !pinned.includes(dir)),
    [],
  );
  bed.datapath.grace = grace;
  await hostOf(bed, bed.datapath, true).repair(transition.desired, log);
  await assertStands(bed, transition.desired);
});
