import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { graceByMapInMap } from '../../src/datapath/libbpf/grace.js';
import { hookAt } from '../../src/domain/observed.js';
import { command, type KernelFixture, kernelFixture } from '../contract/kernel.js';
import { discard, load, observed, PORT_COUNT, PORT_DROP, programId, refused, XDP_ROOT } from '../contract/samples.js';
import { idsInKernel } from '../support/kernel-ids.js';

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

test('a discarded program is gone from the kernel', async () => {
  const count = await load(kernel, PORT_COUNT, 'xdpingress');
  const id = await programId(kernel, count);
  assert.ok(idsInKernel('prog').includes(id));

  await kernel.datapath.discard(count.dir, id);

  assert.ok(!idsInKernel('prog').includes(id));
});

test('a program that somebody still holds is reported with the holder', async () => {
  const [root, count] = [await load(kernel, XDP_ROOT, 'xdpingress'), await load(kernel, PORT_COUNT, 'xdpingress')];
  await kernel.datapath.setSlot(root.slot, count.program);
  const id = await programId(kernel, count);
  const slotId = (await observed(kernel, root))?.slot?.mapId;

  const left = kernel.datapath.discard(count.dir, id);

  await refused(left, 'LEFTOVER', `Program ${id}`, `entry 0 of the PROG_ARRAY with id ${slotId}`);
  assert.equal(await observed(kernel, count), undefined);
  await discard(kernel, root);
});

test('a chain can be discarded in the order in which it is observed', async () => {
  const { datapath } = kernel;
  // Their directories are listed in the order of their names, which is not that of the chain.
  const [drop, root, count] = [
    await load(kernel, PORT_DROP, 'xdpingress'),
    await load(kernel, XDP_ROOT, 'xdpingress'),
    await load(kernel, PORT_COUNT, 'xdpingress'),
  ];
  await datapath.setSlot(root.slot, count.program);
  await datapath.setSlot(count.slot, drop.program);

  const { generations } = hookAt(await datapath.observe(), root.hook);
  assert.deepEqual(
    generations.map(({ dir }) => dir),
    [root.dir, count.dir, drop.dir],
  );
  for (const { dir, programId } of generations) await datapath.discard(dir, programId);
});

test('nothing but a generation is discarded', async () => {
  const root = await load(kernel, XDP_ROOT, 'xdpingress');

  await refused(kernel.datapath.discard(`${kernel.bpffs}/progs`, undefined), 'INTERNAL');
  await refused(kernel.datapath.discard(kernel.bpffs, undefined), 'INTERNAL');
  await refused(kernel.datapath.discard(root.dir.replace('/progs/', '/other/'), undefined), 'INTERNAL');

  assert.ok((await observed(kernel, root)) !== undefined);
  await discard(kernel, root);
});

test('a torso of a generation is observed without program, and discarded', async () => {
  const root = await load(kernel, XDP_ROOT, 'xdpingress');
  await command('rm', root.program);

  assert.equal((await observed(kernel, root))?.programId, undefined);

  await kernel.datapath.discard(root.dir, undefined);
});

test("other people's things in bpffs are neither observed nor touched", async () => {
  const theirs = `${kernel.bpffs}/cilium/devices/eth9`;
  await command('mkdir', '-p', theirs, `${kernel.bpffs}/progs/eth9/x/1_0/not-ours`);
  await command(
    'bpftool',
    'map',
    'create',
    `${theirs}/config`,
    'type',
    'array',
    'key',
    '4',
    'value',
    '4',
    'entries',
    '1',
    'name',
    'c',
  );
  const root = await load(kernel, XDP_ROOT, 'xdpingress');

  const { hooks, publicMaps } = await kernel.datapath.observe();
  assert.deepEqual(
    hooks.flatMap(({ generations }) => generations.map(({ dir }) => dir)),
    [root.dir],
  );
  assert.deepEqual([...publicMaps.keys()], [`${theirs}/config`], 'a name that is taken is seen as taken');
  await discard(kernel, root);

  assert.equal(await command('ls', theirs), 'config\n');
  await command('rm', '-r', `${kernel.bpffs}/cilium`, `${kernel.bpffs}/progs`);
});

test('the way to wait on kernels that refuse membarrier works too', () => graceByMapInMap());
