import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import { tryOpenId } from '../../../src/datapath/libbpf/abi/fd.js';
import { NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { programPin } from '../../../src/domain/pins.js';
import { ComparedDatapath } from '../../support/compared-datapath.js';
import { loader } from '../../support/loader.js';
import { entriesBelow } from '../../support/pins.js';
import { repeats } from '../../support/repeats.js';
import { createTestbed, mountBpffs } from '../../support/testbed.js';
import { until } from '../../support/until.js';
import { type CrashBed, roundArbitrary, survive } from '../support-crash.js';

test('on the kernel too, after random changes with random failures the chains are as desired and nothing is left over', async (t) => {
  const [testbed, bpffs] = await Promise.all([createTestbed(), mountBpffs()]);
  t.after(async () => {
    await testbed.close();
    await bpffs.unmount();
  });
  const ids = new Set<number>();
  const datapath = new ComparedDatapath({ bpffs: bpffs.path, loader });
  const noting = new ComparedDatapath({ bpffs: bpffs.path, loader });
  noting.observe = async () => {
    const observed = await datapath.observe();
    for (const { programId } of observed.hooks.flatMap(({ loadedPrograms }) => loadedPrograms)) ids.add(programId ?? 0);
    return observed;
  };
  const bed: CrashBed = {
    datapath: noting,
    bpffs: bpffs.path,
    hooks: (['xdpingress', 'egress'] as const).map((direction) => ({ iface: testbed.iface, direction })),
    // What a load leaves if it is killed half-way: everything but the program's own pin, which is made last.
    tear: (dir) => rm(programPin(dir), { force: true }),
  };

  await fc.assert(
    fc.asyncProperty(fc.array(roundArbitrary(2), { minLength: 1, maxLength: 4 }), async (rounds) => {
      let before = NOTHING_DESIRED;
      for (const round of rounds) before = (await survive(bed, before, round)).desired;
      await survive(bed, before, { chaining: true, chains: [[], []], mishap: { kind: 'none' } });

      const pinned = entriesBelow(bpffs.path);
      assert.deepEqual(pinned, [], 'pins');
      // The failed operation may have been the wait for the kernel to free them.
      await until('no program is left', () => ![...ids].some(isLoaded));
      ids.clear();
    }),
    { numRuns: repeats({ usual: 4, full: 12 }) },
  );
});

function isLoaded(programId: number): boolean {
  using program = tryOpenId('prog', programId);
  return program !== undefined;
}
