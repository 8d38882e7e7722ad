import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { openPin } from '../../../../src/datapath/libbpf/abi/fd.js';
import { holdersOf } from '../../../../src/datapath/libbpf/diagnostics/holders.js';
import { graceByMapInMap } from '../../../../src/datapath/libbpf/objects/grace.js';
import { hookAt } from '../../../../src/domain/observed.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  discard,
  type Loaded,
  load,
  observed,
  PORT_COUNT,
  PORT_DROP,
  programId,
  refused,
  XDP_ROOT,
} from '../../../contract/samples.js';
import { existing, idsInKernel } from '../../../support/kernel-ids.js';

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

/** Ids of all kernel objects of a loaded program. */
async function idsOf(loaded: Loaded) {
  const { programId, slot, maps } = (await observed(kernel, loaded))!;
  return { programs: [programId!], maps: [slot!.mapId, ...maps.map(({ id }) => id)], links: [] };
}

test('a discarded program is gone from the kernel: program, slot and maps', async () => {
  const count = await load(kernel, PORT_COUNT, 'xdpingress');
  const ids = await idsOf(count);
  assert.equal(ids.maps.length, 3);
  assert.deepEqual(existing('map', ids.maps), ids.maps);

  await kernel.datapath.discard(count.dir);
  await kernel.datapath.proveGone(ids);

  assert.ok(!idsInKernel('prog').includes(ids.programs[0]!));
  assert.deepEqual(existing('map', ids.maps), []);
});

test('a detached link is gone from the kernel', async () => {
  const root = await load(kernel, XDP_ROOT, 'xdpingress');
  await kernel.datapath.attach(root.hook, root.program, root.link, null);
  const { attachments } = hookAt(await kernel.datapath.observe(), root.hook);
  const links = attachments.map(({ linkId }) => linkId);
  assert.deepEqual(existing('link', links), links);

  await kernel.datapath.detach(root.hook, root.link);
  await kernel.datapath.proveGone({ programs: [], maps: [], links });

  assert.deepEqual(existing('link', links), []);
  await discard(kernel, root);
});

test('a program that a slot still names is reported with the slot', async () => {
  const [root, count] = [await load(kernel, XDP_ROOT, 'xdpingress'), await load(kernel, PORT_COUNT, 'xdpingress')];
  await kernel.datapath.setSlot(root.slot, count.program);
  const id = await programId(kernel, count);
  const slotId = (await observed(kernel, root))?.slot?.mapId;

  await kernel.datapath.discard(count.dir);
  const left = kernel.datapath.proveGone({ programs: [id], maps: [], links: [] });

  await refused(
    left,
    'LEFTOVER',
    `Program ${id}`,
    `entry 0 of the PROG_ARRAY with id ${slotId}, pinned at ${root.slot}`,
  );
  assert.equal(await observed(kernel, count), undefined);
  await discard(kernel, root);
});

test('a map that others have pinned elsewhere is reported with the pin, and other objects, which are gone, are not', async () => {
  const count = await load(kernel, PORT_COUNT, 'xdpingress');
  const ids = await idsOf(count);
  const theirs = `${kernel.bpffs}/theirs`;
  await command('bpftool', 'map', 'pin', 'pinned', count.map('packet_count'), theirs);
  const held = (await observed(kernel, count))!.maps.find(({ name }) => name === 'packet_count')!.id;

  await kernel.datapath.discard(count.dir);
  const error = await refused(kernel.datapath.proveGone(ids), 'LEFTOVER', `Map ${held} is still in the kernel`, theirs);

  assert.equal(error.message.match(/is still in the kernel/g)?.length, 1, error.message);
  await command('rm', theirs);
  await kernel.datapath.proveGone(ids);
});

test('holders are found without opening maps by id', async () => {
  // A PROG_ARRAY that is opened by id while its last user disappears would be kept forever.
  const count = await load(kernel, PORT_COUNT, 'xdpingress');
  const { programs, maps } = await idsOf(count);

  const holders = holdersOf([
    ...programs.map((id) => ({ kind: 'prog' as const, id })),
    ...maps.map((id) => ({ kind: 'map' as const, id })),
  ]);

  assert.deepEqual(holders.get(`prog ${programs[0]}`), [`the pin ${count.program}`]);
  for (const id of maps) {
    const [program, pin] = holders.get(`map ${id}`) ?? [];
    assert.match(program ?? '', new RegExp(`^program ${programs[0]} \\(xdp_port_count\\)$`));
    assert.match(pin ?? '', new RegExp(`^the pin ${count.dir}/`));
  }
  await discard(kernel, count);
});

test('a chain is freed as a whole', async () => {
  const { datapath } = kernel;
  const [drop, root, count] = [
    await load(kernel, PORT_DROP, 'xdpingress'),
    await load(kernel, XDP_ROOT, 'xdpingress'),
    await load(kernel, PORT_COUNT, 'xdpingress'),
  ];
  await datapath.setSlot(root.slot, count.program);
  await datapath.setSlot(count.slot, drop.program);
  const ids = await Promise.all([root, count, drop].map(idsOf));

  const { loadedPrograms } = hookAt(await datapath.observe(), root.hook);
  assert.deepEqual(
    loadedPrograms.map(({ dir }) => dir),
    [root.dir, count.dir, drop.dir],
    'in the order of the chain, and not of the names of their directories',
  );
  for (const { dir } of loadedPrograms) await datapath.discard(dir);

  await datapath.proveGone({
    programs: ids.flatMap(({ programs }) => programs),
    maps: ids.flatMap(({ maps }) => maps),
    links: [],
  });
});

test('a slot that another process has open holds only itself', async () => {
  const { datapath } = kernel;
  const [count, drop] = [await load(kernel, PORT_COUNT, 'xdpingress'), await load(kernel, PORT_DROP, 'xdpingress')];
  await datapath.setSlot(count.slot, drop.program);
  const [ids, idsOfDrop] = [await idsOf(count), await idsOf(drop)];
  const [slotId, ...data] = ids.maps as [number, ...number[]];
  {
    using held = openPin('map', count.slot);
    assert.ok(held.number > 0);
    for (const { dir } of [count, drop]) await datapath.discard(dir);

    await datapath.proveGone({ programs: [...ids.programs, ...idsOfDrop.programs], maps: data, links: [] });
    await datapath.proveGone(idsOfDrop);
    await refused(
      datapath.proveGone(ids),
      'LEFTOVER',
      `Map ${slotId} is still in the kernel`,
      `process ${process.pid}`,
    );
  }
  await datapath.proveGone(ids);
});

test('only loaded programs are discarded', async () => {
  const root = await load(kernel, XDP_ROOT, 'xdpingress');

  await refused(kernel.datapath.discard(`${kernel.bpffs}/progs`), 'INTERNAL');
  await refused(kernel.datapath.discard(kernel.bpffs), 'INTERNAL');
  await refused(kernel.datapath.discard(root.dir.replace('/progs/', '/other/')), 'INTERNAL');

  assert.ok((await observed(kernel, root)) !== undefined);
  await discard(kernel, root);
});

test('an incomplete directory of a loaded program is observed without program, and discarded', async () => {
  const root = await load(kernel, XDP_ROOT, 'xdpingress');
  await command('rm', root.program);

  assert.equal((await observed(kernel, root))?.programId, undefined);

  await kernel.datapath.discard(root.dir);
});

test('foreign entries in bpffs are neither observed nor touched', async () => {
  const theirs = `${kernel.bpffs}/cilium/devices/eth9`;
  await command('mkdir', '-p', theirs, `${kernel.bpffs}/progs/eth9/x/1_0/not-ours`);
  const shape = ['type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'c'];
  await command('bpftool', 'map', 'create', `${theirs}/config`, ...shape);
  const root = await load(kernel, XDP_ROOT, 'xdpingress');

  const { hooks, publicMaps } = await kernel.datapath.observe();
  assert.deepEqual(
    hooks.flatMap(({ loadedPrograms }) => loadedPrograms.map(({ dir }) => dir)),
    [root.dir],
  );
  assert.deepEqual([...publicMaps.keys()], [`${theirs}/config`], 'a name that is taken is seen as taken');
  await discard(kernel, root);

  assert.equal(await command('ls', theirs), 'config\n');
  await command('rm', '-r', `${kernel.bpffs}/cilium`, `${kernel.bpffs}/progs`);
});

test('waiting on kernels that refuse membarrier works too', () => graceByMapInMap());
