import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  discard,
  KEY_0,
  type Loaded,
  load,
  observed,
  PORT_COUNT,
  programId,
  TC_COUNT,
} from '../../../contract/samples.js';
import { compileObject } from '../../../support/compile.js';

/* Programs that call functions of their own object by tail calls, besides the next program of the chain. */

const OWN = { object: 'own', entryFunction: 'own_first', slotMap: 'own_next' };
const PACKETS = 25;

const KINDS = [
  { at: 'xdpingress', section: 'xdp', context: 'struct xdp_md', verdict: 2, next: PORT_COUNT, counter: 'packet_count' },
  { at: 'ingress', section: 'tc', context: 'struct __sk_buff', verdict: 0, next: TC_COUNT, counter: 'tc_packets' },
  // A section that libbpf does not know: the agent gives the type.
  { at: 'xdpingress', section: 'own', context: 'struct xdp_md', verdict: 2, next: PORT_COUNT, counter: 'packet_count' },
] as const;

let folder: string;
let kernel: KernelFixture;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'l3af-own-'));
});
after(() => rmSync(folder, { recursive: true }));
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

for (const { at, section, context, verdict, next, counter } of KINDS) {
  describe(`a program at ${at} in the section ${section} with tail calls of its own`, () => {
    let objectPath: string;
    before(async () => {
      objectPath = join(folder, `${section}.bpf.o`);
      const options = [`-DSECTION="${section}"`, `-DCONTEXT=${context}`, `-DVERDICT=${verdict}`];
      await compileObject('own_tail_calls', objectPath, ...options);
    });

    const own = (share: Loaded['dir'][] = []) =>
      load(kernel, OWN, at, {
        objectPath,
        share: share.flatMap((dir) => ['calls', 'inner', 'outer'].map((map) => ({ map, pin: `${dir}/maps/${map}` }))),
      });

    async function calls(loaded: Loaded): Promise<number[]> {
      const keys = [0, 1, 2].map((key) => Buffer.from(Uint32Array.of(key).buffer));
      const values = keys.map(async (key) => kernel.datapath.readMap(loaded.map('calls'), key));
      return (await Promise.all(values)).map((value) => Number(Buffer.from(value ?? []).readBigUInt64LE()));
    }

    it('has its functions called, and passes packets on to the next program', async () => {
      const loaded = await own();
      const behind = await load(kernel, next, at);
      await kernel.datapath.setSlot(loaded.slot, behind.program);
      await kernel.datapath.attach(loaded.hook, loaded.program, loaded.link);

      await kernel.receive(PACKETS, 9000);

      assert.deepEqual(await calls(loaded), [PACKETS, PACKETS, PACKETS]);
      const maps = (await observed(kernel, loaded))?.maps.map(({ name }) => name).toSorted();
      assert.deepEqual(maps, ['calls', 'inner', 'outer']);
      await kernel.datapath.detach(loaded.hook, loaded.link);
      await discard(kernel, loaded, behind);
    });

    it('keeps calling its own functions while it is loaded again with the same maps', async () => {
      const first = await own();
      await kernel.datapath.attach(first.hook, first.program, first.link);
      const second = await own([first.dir]);
      assert.notEqual(await programId(kernel, first), await programId(kernel, second));
      // The functions of the second load pass packets on to this program, those of the first to none.
      const behind = await load(kernel, next, at);
      await kernel.datapath.setSlot(second.slot, behind.program);
      const passedOn = () => kernel.datapath.readMap(behind.map(counter), KEY_0);

      await kernel.receive(PACKETS, 9000);
      assert.deepEqual(await calls(first), [PACKETS, PACKETS, PACKETS]);
      assert.deepEqual(await passedOn(), Buffer.alloc(8));
      await kernel.datapath.retarget(first.hook, first, second);
      await discard(kernel, first);
      await kernel.receive(PACKETS, 9000);
      assert.deepEqual(await calls(second), [2 * PACKETS, 2 * PACKETS, 2 * PACKETS]);
      assert.equal(Buffer.from((await passedOn()) ?? []).readBigUInt64LE(), BigInt(PACKETS));

      await kernel.datapath.detach(second.hook, second.link);
      await discard(kernel, second, behind);
    });
  });
}
