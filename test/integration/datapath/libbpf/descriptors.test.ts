import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { handoverPin } from '../../../../src/domain/pins.js';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  assertEmpty,
  BROKEN,
  discard,
  type Loaded,
  load,
  PORT_COUNT,
  PORT_DROP,
  refused,
  requestFor,
  TC_COUNT,
  tcRoot,
  XDP_ROOT,
} from '../../../contract/samples.js';
import { existing } from '../../../support/kernel-ids.js';
import { repeats } from '../../../support/repeats.js';

const CYCLES = repeats({ usual: 20, full: 100 });

/**
 * Attaches an XDP chain and a TC chain, replaces the second XDP program, tries a load that is refused, and removes
 * everything.
 */
async function cycle(kernel: KernelFixture, ids: Ids): Promise<void> {
  const { datapath } = kernel;
  const [root, count, drop, tc, tcCount] = [
    await load(kernel, XDP_ROOT, 'xdpingress'),
    await load(kernel, PORT_COUNT, 'xdpingress'),
    await load(kernel, PORT_DROP, 'xdpingress', {
      fill: [{ name: 'drop_ports', path: 'map_args.0', args: [{ key: 1, value: 1 }] }],
    }),
    await load(kernel, tcRoot('egress'), 'egress'),
    await load(kernel, TC_COUNT, 'egress'),
  ];
  await datapath.setSlot(root.slot, count.program);
  await datapath.setSlot(tc.slot, tcCount.program);
  await datapath.attach(root.hook, root.program, root.link);
  await datapath.attach(tc.hook, tc.program, tc.link);
  await datapath.publish(count.map('packet_count'), count.publicPath('packet_count'));

  const share = [{ map: 'packet_count', pin: count.map('packet_count') }];
  const reloaded = await load(kernel, PORT_COUNT, 'xdpingress', { share });
  await datapath.setSlot(reloaded.slot, drop.program);
  await datapath.setSlot(root.slot, reloaded.program);
  const swap = { program: tcCount.program, link: tcCount.link };
  await datapath.retarget(tc.hook, { program: tc.program, link: tc.link }, swap);
  await refused(datapath.load(requestFor(kernel, BROKEN, 'xdpingress')), 'VERIFIER_REJECTED');
  await refused(
    datapath.load(requestFor(kernel, BROKEN, 'xdpingress', { objectPath: '/proc/version' })),
    'OBJECT_INVALID',
  );

  const captured = await capture(kernel, root);
  await note(kernel, ids);
  await datapath.unpublish(count.publicPath('packet_count'));
  await datapath.detach(root.hook, root.link);
  await datapath.detach(tc.hook, tcCount.link);
  await discard(kernel, root, count, reloaded, drop, tc, tcCount, captured);
  await assertEmpty(kernel);
}

/** Takes over a foreign program, after it was refused once. */
async function capture(kernel: KernelFixture, root: Loaded): Promise<Loaded> {
  const { datapath } = kernel;
  const { hook, dir, slotMap } = requestFor(kernel, PORT_COUNT, 'xdpingress');
  const request = { hook, dir, slotMap, share: [], fill: [], claim: { folder: `${kernel.bpffs}/nobody`, except: [] } };
  await datapath.makeHandover(dir, root.program);
  await refused(datapath.capture(request), 'LOAD_FAILED');
  const source = await load(kernel, PORT_COUNT, 'xdpingress');
  await datapath.setSlot(handoverPin(dir), source.program);
  await datapath.discard(source.dir);
  await refused(datapath.capture({ ...request, slotMap: 'other' }), 'SLOT_INVALID');
  await datapath.capture(request);
  return { ...source, dir };
}

interface Ids {
  readonly prog: Set<number>;
  readonly map: Set<number>;
  readonly link: Set<number>;
}

/** Notes the ids of all present objects. */
async function note({ datapath }: KernelFixture, ids: Ids): Promise<void> {
  const { hooks } = await datapath.observe();
  for (const { programId, slot, maps } of hooks.flatMap(({ loadedPrograms }) => loadedPrograms)) {
    if (programId !== undefined) ids.prog.add(programId);
    if (slot !== undefined) ids.map.add(slot.mapId);
    for (const { id } of maps) ids.map.add(id);
  }
  for (const { linkId } of hooks.flatMap(({ attachments }) => attachments)) ids.link.add(linkId);
}

/**
 * The noted ids that the kernel still has. It frees maps after RCU grace periods, which take longer on a busy machine.
 */
async function left(ids: Ids): Promise<string[]> {
  const patience = AbortSignal.timeout(30_000);
  for (;;) {
    const kinds = ['prog', 'map', 'link'] as const;
    const found = kinds.flatMap((kind) => existing(kind, ids[kind]).map((id) => `${kind} ${id}`));
    if (found.length === 0 || patience.aborted) return found;
    await sleep(20);
  }
}

for (const tc of ['tcx', 'clsact'] as const) {
  test(`${CYCLES} times two chains are attached and removed, and leave no descriptor, program, map or link (${tc})`, async () => {
    const kernel = await kernelFixture({ tc });
    const ids: Ids = { prog: new Set(), map: new Set(), link: new Set() };
    // The first cycle opens what stays open permanently: libraries, the threads of background calls.
    await cycle(kernel, ids);
    const before = (await readdir('/proc/self/fd')).length;

    for (let n = 0; n < CYCLES; n += 1) await cycle(kernel, ids);

    assert.equal((await readdir('/proc/self/fd')).length, before, 'open descriptors');
    assert.ok(ids.prog.size === 7 * (CYCLES + 1) && ids.map.size > ids.prog.size && ids.link.size > 0);
    assert.deepEqual(await left(ids), []);
    await kernel.close();
  });
}
