import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { discard, type Fixture, load, PORT_COUNT, XDP_ROOT } from './samples.js';

export function runContract(fixtureOf: () => Fixture): void {
  describe('the runs of a program', () => {
    test('stay 0 while it is not attached, even if runs are counted', async () => {
      const { datapath } = fixtureOf();
      using _counting = await datapath.countRuns();
      const [root, program] = [
        await load(fixtureOf(), XDP_ROOT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
      ];

      const stats = await datapath.runStats([root.program, program.program]);

      assert.deepEqual(
        [...stats],
        [
          [root.program, { count: 0, timeNs: 0 }],
          [program.program, { count: 0, timeNs: 0 }],
        ],
      );
      await discard(fixtureOf(), root, program);
    });

    test('are not reported if nothing is pinned', async () => {
      const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress');

      const stats = await fixtureOf().datapath.runStats([`${program.dir}/none`, program.program]);

      assert.deepEqual([...stats.keys()], [program.program]);
      await discard(fixtureOf(), program);
    });
  });
}
