import assert from 'node:assert/strict';
import { readdir, readlink } from 'node:fs/promises';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  discard,
  type Loaded,
  load,
  PORT_COUNT,
  PORT_DROP,
  programId,
  TC_COUNT,
  tcRoot,
  XDP_ROOT,
} from '../../../contract/samples.js';
import { bpftool } from '../../../e2e/support/kernel.js';

const PORT = 9;
const PACKETS = 500;

describe('while runs are counted, the kernel reports', () => {
  let kernel: KernelFixture;
  beforeEach(async () => {
    kernel = await kernelFixture({ tc: 'tcx' });
  });
  afterEach(() => kernel.close());

  const runsOf = async ({ program }: Loaded) => (await kernel.datapath.runStats([program])).get(program)!;

  test('one run of the attached program for each packet, and none of the programs behind it', async () => {
    // given
    const { datapath } = kernel;
    const root = await load(kernel, XDP_ROOT, 'xdpingress');
    const first = await load(kernel, PORT_COUNT, 'xdpingress');
    const last = await load(kernel, PORT_DROP, 'xdpingress');
    await datapath.setSlot(root.slot, first.program);
    await datapath.setSlot(first.slot, last.program);
    using _counting = await datapath.countRuns();
    await datapath.attach(root.hook, root.program, root.link);

    // when
    await kernel.receive(PACKETS, PORT);
    await kernel.counted(first.map('packet_count'), PACKETS);

    // then
    const { count, timeNs } = await runsOf(root);
    assert.equal(count, PACKETS);
    assert.ok(timeNs > count, `${timeNs} ns for ${count} runs`);
    for (const behind of [first, last]) assert.deepEqual(await runsOf(behind), { count: 0, timeNs: 0 });
    const shown = await bpftool<{ run_cnt: number; run_time_ns: number }>('prog', 'show', 'pinned', root.program);
    assert.deepEqual([shown.run_cnt, shown.run_time_ns], [count, timeNs], 'bpftool says the same');

    await datapath.detach(root.hook, root.link);
    await discard(kernel, root, first, last);
  });

  test('the runs of a program that has replaced another one at its link', async () => {
    // given a program that is attached, and then replaced at its link
    const { datapath } = kernel;
    const first = await load(kernel, TC_COUNT, 'ingress');
    const second = await load(kernel, tcRoot('ingress'), 'ingress');
    using _counting = await datapath.countRuns();
    await datapath.attach(first.hook, first.program, first.link);
    await kernel.receive(PACKETS, PORT);
    const swap = { program: second.program, link: second.link };
    await datapath.retarget(first.hook, { program: first.program, link: first.link }, swap);

    // when
    const before = await runsOf(first);
    await kernel.receive(PACKETS, PORT);

    // then
    assert.ok(before.count >= PACKETS);
    assert.deepEqual(await runsOf(first), before);
    assert.ok((await runsOf(second)).count >= PACKETS);

    await datapath.detach(first.hook, second.link);
    await discard(kernel, first, second);
  });

  test('nothing through a descriptor that stays open', async () => {
    const open = async () => {
      const targets = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
      return (await Promise.all(targets)).filter((target) => target.startsWith('anon_inode:bpf'));
    };
    const program = await load(kernel, PORT_COUNT, 'xdpingress');

    const counting = await kernel.datapath.countRuns();
    assert.ok((await programId(kernel, program)) > 0 && (await runsOf(program)).count === 0);
    assert.deepEqual(await open(), ['anon_inode:bpf-stats']);
    counting[Symbol.dispose]();

    assert.deepEqual(await open(), []);
    await discard(kernel, program);
  });
});
