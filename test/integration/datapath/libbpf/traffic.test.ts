import { afterEach, beforeEach, describe, test } from 'node:test';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, load, PORT_COUNT, PORT_DROP, TC_COUNT, tcRoot, u16, XDP_ROOT } from '../../../contract/samples.js';

/*
 * Real packets on a veth pair, through chains of the datapath.
 */

const PORT = 7001;
const OTHER_PORT = 7002;

let kernel: KernelFixture;
afterEach(() => kernel.close());

for (const xdp of ['native', 'generic'] as const) {
  describe(`XDP, ${xdp}`, () => {
    beforeEach(async () => {
      kernel = await kernelFixture({ xdp });
    });

    test('packets pass a chain from the root to the tail, and a program in it drops as configured', async () => {
      const { datapath } = kernel;
      const fill = [{ name: 'drop_ports', path: 'map_args.0', args: [{ key: PORT, value: 1 }] }];
      const [root, drop, count] = [
        await load(kernel, XDP_ROOT, 'xdpingress'),
        await load(kernel, PORT_DROP, 'xdpingress', { fill }),
        await load(kernel, PORT_COUNT, 'xdpingress'),
      ];
      await datapath.setSlot(drop.slot, count.program);
      await datapath.setSlot(root.slot, drop.program);
      await datapath.attach(root.hook, root.program, root.link);

      await kernel.receive(50, PORT);
      await kernel.receive(30, OTHER_PORT);
      await kernel.counted(drop.map('seen_count'), 80);
      await kernel.counted(drop.map('dropped_count'), 50);
      await kernel.counted(count.map('packet_count'), 30);

      await datapath.detach(root.hook, root.link);
      await kernel.receive(10, PORT);
      await kernel.counted(drop.map('seen_count'), 80);

      await discard(kernel, root, drop, count);
    });

    test('one write of a slot switches the chain to a program that continues the counters of the old one', async () => {
      const { datapath } = kernel;
      const [root, old] = [await load(kernel, XDP_ROOT, 'xdpingress'), await load(kernel, PORT_COUNT, 'xdpingress')];
      await datapath.setSlot(root.slot, old.program);
      await datapath.attach(root.hook, root.program, root.link);
      await kernel.receive(20, PORT);
      await kernel.counted(old.map('packet_count'), 20);

      const share = [{ map: 'packet_count', pin: old.map('packet_count') }];
      const replacement = await load(kernel, PORT_COUNT, 'xdpingress', { share });
      await datapath.setSlot(root.slot, replacement.program);
      await datapath.grace();
      await discard(kernel, old);
      await kernel.receive(5, PORT);
      await kernel.counted(replacement.map('packet_count'), 25);

      await datapath.detach(root.hook, root.link);
      await discard(kernel, root, replacement);
    });

    test('a change of a map takes effect on the running program', async () => {
      const { datapath } = kernel;
      const drop = await load(kernel, PORT_DROP, 'xdpingress');
      await datapath.attach(drop.hook, drop.program, drop.link);
      await kernel.receive(5, PORT);
      await kernel.counted(drop.map('dropped_count'), 0);

      await datapath.writeMap(drop.map('drop_ports'), { set: [{ key: u16(PORT), value: '01' }], remove: [] });
      await kernel.receive(5, PORT);
      await kernel.counted(drop.map('dropped_count'), 5);

      await datapath.detach(drop.hook, drop.link);
      await discard(kernel, drop);
    });
  });
}

for (const tc of ['tcx', 'clsact'] as const) {
  describe(`TC, ${tc}`, () => {
    beforeEach(async () => {
      kernel = await kernelFixture({ tc });
    });

    for (const direction of ['ingress', 'egress'] as const) {
      test(`packets pass a chain at ${direction}`, async () => {
        const { datapath } = kernel;
        const pass = direction === 'ingress' ? kernel.receive : kernel.send;
        const [root, count] = [
          await load(kernel, tcRoot(direction), direction),
          await load(kernel, TC_COUNT, direction),
        ];
        await datapath.setSlot(root.slot, count.program);
        await datapath.attach(root.hook, root.program, root.link);

        await pass(40, PORT);
        await kernel.counted(count.map('tc_packets'), 40);

        await datapath.detach(root.hook, root.link);
        await pass(10, PORT);
        await kernel.counted(count.map('tc_packets'), 40);

        await discard(kernel, root, count);
      });
    }

    test('a swap of the attached program misses no packet', async () => {
      const { datapath } = kernel;
      const [first, second] = [await load(kernel, TC_COUNT, 'ingress'), await load(kernel, TC_COUNT, 'ingress')];
      await datapath.attach(first.hook, first.program, first.link);
      await kernel.receive(10, PORT);

      const from = { program: first.program, link: first.link };
      await datapath.retarget(first.hook, from, { program: second.program, link: second.link });
      await kernel.receive(7, PORT);
      await kernel.counted(first.map('tc_packets'), 10);
      await kernel.counted(second.map('tc_packets'), 7);

      await datapath.detach(second.hook, second.link);
      await discard(kernel, first, second);
    });
  });
}
