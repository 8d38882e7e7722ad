import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  assertEmpty,
  BROKEN,
  discard,
  load,
  observed,
  PORT_COUNT,
  PORT_DROP,
  refused,
  requestFor,
  TC_COUNT,
  u16,
  XDP_ROOT,
} from '../../../contract/samples.js';

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

test('a refusal of the verifier is reported in its own words, and nothing is left', async () => {
  const request = requestFor(kernel, BROKEN, 'xdpingress');

  const error = await refused(kernel.datapath.load(request), 'VERIFIER_REJECTED');

  assert.match(
    error.message,
    /^The verifier refused broken: invalid access to packet, off=0 size=1, .*; R\d offset is outside of the packet$/,
  );
  const lines = (error.detail ?? '').split('\n');
  assert.ok(lines.length <= 25);
  assert.match(lines.at(-1) ?? '', /^R\d offset is outside of the packet$/);
  assert.ok(
    lines.some((line) => /^\d+: \(71\) r\d = \*\(u8 \*\)\(r\d \+0\)/.test(line)),
    error.detail,
  );
  await assertEmpty(kernel);
});

test('a refused load does not disturb the next one', async () => {
  await refused(kernel.datapath.load(requestFor(kernel, BROKEN, 'xdpingress')), 'VERIFIER_REJECTED');

  await discard(kernel, await load(kernel, PORT_COUNT, 'xdpingress'));
});

test('the event loop stays free while a program is loaded', async () => {
  let turns = 0;
  const turning = setInterval(() => {
    turns += 1;
  }, 0);
  const loaded = await load(kernel, PORT_COUNT, 'xdpingress');
  clearInterval(turning);

  assert.ok(turns > 0);
  await discard(kernel, loaded);
});

test('a directory that holds a loaded program already is not touched', async () => {
  const loaded = await load(kernel, PORT_COUNT, 'xdpingress');
  const before = await observed(kernel, loaded);
  const again = requestFor(kernel, PORT_COUNT, 'xdpingress', { dir: loaded.dir });

  await refused(kernel.datapath.load(again), 'KERNEL', loaded.dir, 'EEXIST');

  assert.deepEqual(await observed(kernel, loaded), before);
  await discard(kernel, loaded);
});

test('a directory name that bpffs rejects leaves no parents behind', async () => {
  const dir = `${kernel.bpffs}/progs/l3none0/name/1_0/with.dot`;

  await refused(kernel.datapath.load(requestFor(kernel, PORT_COUNT, 'xdpingress', { dir })), 'KERNEL', 'EPERM');
});

test('a map of another type or size is not shared', async () => {
  const other = await load(kernel, PORT_DROP, 'xdpingress');
  const share = [{ map: 'packet_count', pin: other.map('drop_ports') }];

  const request = requestFor(kernel, PORT_COUNT, 'xdpingress', { share });
  await refused(kernel.datapath.load(request), 'MAP_INCOMPATIBLE', 'packet_count', 'type is 2');

  await discard(kernel, other);
});

test('neither a slot nor a map that does not exist is shared', async () => {
  const first = await load(kernel, PORT_COUNT, 'xdpingress');
  const sharing = (map: string, pin: string) =>
    kernel.datapath.load(requestFor(kernel, PORT_COUNT, 'xdpingress', { share: [{ map, pin }] }));

  await refused(sharing('port_count_next', first.slot), 'SLOT_INVALID', 'port_count_next');
  await refused(sharing('packet_count', `${first.dir}/maps/none`), 'MAP_NOT_FOUND', `${first.dir}/maps/none`);
  await refused(sharing('none', first.map('packet_count')), 'MAP_NOT_FOUND', 'none');

  await discard(kernel, first);
});

test('a shared map is restored if the load fails after it was filled', async () => {
  const first = await load(kernel, PORT_DROP, 'xdpingress');
  const share = [{ map: 'drop_ports', pin: first.map('drop_ports') }];
  const fill = [{ name: 'drop_ports', path: 'map_args.0', args: [{ key: 53, value: 1 }] }];

  const taken = requestFor(kernel, PORT_DROP, 'xdpingress', { share, fill, dir: first.dir });
  await refused(kernel.datapath.load(taken), 'KERNEL', 'EEXIST');

  assert.equal(await kernel.datapath.readMap(first.map('drop_ports'), Buffer.from(u16(53), 'hex')), undefined);
  await discard(kernel, first);
});

test('a program of another type is refused by a slot', async () => {
  const [root, count] = [await load(kernel, XDP_ROOT, 'xdpingress'), await load(kernel, TC_COUNT, 'ingress')];

  await refused(kernel.datapath.setSlot(root.slot, count.program), 'KERNEL', 'expected attach type', 'EINVAL');

  assert.equal((await observed(kernel, root))?.slot?.next, null);
  await discard(kernel, root, count);
});
