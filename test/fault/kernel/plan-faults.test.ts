import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { ComparedDatapath } from '../../support/compared-datapath.js';
import type { Direction } from '../../support/directions.js';
import { existing } from '../../support/kernel-ids.js';
import { loader } from '../../support/loader.js';
import { entriesBelow } from '../../support/pins.js';
import { repeats } from '../../support/repeats.js';
import { createTestbed, mountBpffs, type Testbed } from '../../support/testbed.js';
import { until } from '../../support/until.js';
import { type CrashBed, hostOf, log } from '../support-crash.js';
import { assertHealed, assertOldOrNew, failing } from '../support-faults.js';
import { transitionsAt } from '../support-transitions.js';

/*
 * Tests in memory cover every kind of change. Here one of each kind that matters to the kernel shows that what was
 * loaded, attached, linked and written is really rolled back.
 */

const PAIRS: readonly (readonly [Direction, Direction])[] = [
  ['xdpingress', 'egress'],
  ['ingress', 'egress'],
];
const KINDS: readonly (readonly [pair: number, what: string])[] = [
  [0, 'a first deploy on an empty host'],
  [0, 'a change of values that adds, alters and removes keys'],
  [0, 'another program with chaining off'],
  [1, 'a new version that takes tables over'],
  [1, 'a removal of all from all hooks'],
];

/** Distance between the first failures that are followed by a second one. */
const EACH = repeats({ usual: 5, full: 2 });

let testbed: Testbed;
let bpffs: Awaited<ReturnType<typeof mountBpffs>>;

before(async () => {
  [testbed, bpffs] = await Promise.all([createTestbed(), mountBpffs()]);
});

after(async () => {
  await testbed.close();
  await bpffs.unmount();
});

describe('on the kernel, with any one operation failing, and another one during the rollback:', () => {
  for (const [pair, what] of KINDS) {
    test(what, async () => {
      const [first, second] = PAIRS[pair]!;
      const hooks = [
        { iface: testbed.iface, direction: first },
        { iface: testbed.iface, direction: second },
      ] as const;
      const programs = new Set<number>();
      const bed: CrashBed = { datapath: noting(programs, bpffs.path), bpffs: bpffs.path, hooks };
      const transition = transitionsAt(hooks)[what]!;
      const bring = async (from: DesiredState | null, to: DesiredState) => {
        const report = await hostOf(bed, bed.datapath, transition.chaining).apply(from, to, log);
        assert.deepEqual([report.faults, report.leftovers], [[], []]);
      };
      await bring(NOTHING_DESIRED, transition.before);

      let stands = transition.before;
      for (let at = 0, more = true; more; at += 1) {
        if (stands !== transition.before) await bring(stands, transition.before);
        const outcome = await failing(bed, transition, { at, done: at % 2 === 0 });
        stands = await assertOldOrNew(bed, transition, outcome);
        more = outcome.struck > 0;
        // Not each of them, since each rollback waits for a grace period.
        if (outcome.report.status !== 'failed' || at % EACH !== 1) continue;
        const twice = await failing(bed, transition, { at, done: at % 4 === 1, second: { at: at % 3, done: false } });
        await assertHealed(bed, transition, twice);
      }

      await bring(stands, NOTHING_DESIRED);
      const pinned = entriesBelow(bpffs.path);
      assert.deepEqual(pinned, [], 'pins');
      // The operation that failed may have been the wait for the kernel to free them.
      await until('no program is left', () => existing('prog', programs).length === 0);
    });
  }
});

/** The kernel, with the ids of all our programs that were ever observed. */
function noting(programs: Set<number>, path: string): ComparedDatapath {
  const datapath = new ComparedDatapath({ bpffs: path, loader });
  const observe = datapath.observe.bind(datapath);
  datapath.observe = async () => {
    const observed = await observe();
    for (const { programId } of observed.hooks.flatMap(({ loadedPrograms }) => loadedPrograms)) {
      if (programId !== undefined) programs.add(programId);
    }
    return observed;
  };
  return datapath;
}
