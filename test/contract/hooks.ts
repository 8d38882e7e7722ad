import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ATTACH_POINT_NAMES, type AttachPointName } from '../../src/domain/hook.js';
import { hookAt, liveAttachment, standingChain } from '../../src/domain/observed.js';
import {
  discard,
  type Fixture,
  type Loaded,
  load,
  observed,
  PORT_COUNT,
  PORT_DROP,
  programId,
  refused,
  rootSample,
  type Sample,
  SKB_COUNT,
  TC_COUNT,
  XDP_ROOT,
} from './samples.js';

/** A program for each attach point. Those without one need a device of a kind that few kernels have. */
const MEMBERS: Readonly<Record<AttachPointName, Sample | undefined>> = {
  xdpingress: PORT_COUNT,
  ingress: TC_COUNT,
  egress: TC_COUNT,
  netkit_primary: undefined,
  netkit_peer: undefined,
  cgroup_skb_ingress: SKB_COUNT,
  cgroup_skb_egress: SKB_COUNT,
};

export function hookContract(fixtureOf: () => Fixture): void {
  /** Directories of the chain that is attached to the hook of a loaded program. */
  async function chainAt({ hook }: Loaded): Promise<string[]> {
    return standingChain(hookAt(await fixtureOf().datapath.observe(), hook)).map(({ dir }) => dir);
  }

  async function attachedAt({ hook }: Loaded) {
    return liveAttachment(hookAt(await fixtureOf().datapath.observe(), hook));
  }

  describe('a slot', () => {
    test('names the next program, another one, and none', async () => {
      const { datapath } = fixtureOf();
      const [root, first, second] = [
        await load(fixtureOf(), XDP_ROOT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
        await load(fixtureOf(), PORT_DROP, 'xdpingress'),
      ];
      const next = async () => (await observed(fixtureOf(), root))?.slot?.next;

      await datapath.setSlot(root.slot, first.program);
      assert.equal(await next(), await programId(fixtureOf(), first));
      await datapath.setSlot(root.slot, second.program);
      assert.equal(await next(), await programId(fixtureOf(), second));
      await datapath.setSlot(root.slot, null);
      assert.equal(await next(), null);
      await datapath.setSlot(root.slot, null);
      assert.equal(await next(), null);

      await discard(fixtureOf(), root, first, second);
    });

    test('that does not exist is reported', async () => {
      const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress');

      await refused(
        fixtureOf().datapath.setSlot(`${program.dir}/none`, program.program),
        'KERNEL',
        `${program.dir}/none`,
      );

      await discard(fixtureOf(), program);
    });
  });

  describe('a hook', () => {
    for (const direction of ATTACH_POINT_NAMES) {
      const member = MEMBERS[direction];
      if (member === undefined) continue;
      test(`at ${direction} attaches a chain, shows it and detaches it`, async () => {
        const { datapath } = fixtureOf();
        const [root, program] = [
          await load(fixtureOf(), rootSample(direction), direction),
          await load(fixtureOf(), member, direction),
        ];
        await datapath.setSlot(root.slot, program.program);

        await datapath.attach(root.hook, root.program, root.link);
        assert.deepEqual(await chainAt(root), [root.dir, program.dir]);
        assert.equal((await attachedAt(root))?.programId, await programId(fixtureOf(), root));
        const { mode } = (await attachedAt(root)) ?? {};
        assert.equal(mode === 'native' || mode === 'generic', direction === 'xdpingress', `mode ${mode}`);

        await datapath.detach(root.hook, (await attachedAt(root))?.linkPin ?? '');
        assert.equal(await attachedAt(root), undefined);
        assert.deepEqual(await chainAt(root), [root.dir, program.dir]);

        await discard(fixtureOf(), root, program);
      });

      test(`at ${direction} swaps its program`, async () => {
        const { datapath } = fixtureOf();
        const [first, second] = [
          await load(fixtureOf(), rootSample(direction), direction),
          await load(fixtureOf(), member, direction),
        ];
        await datapath.attach(first.hook, first.program, first.link);
        const from = { program: first.program, link: (await attachedAt(first))?.linkPin ?? '' };

        await datapath.retarget(first.hook, from, { program: second.program, link: second.link });
        assert.deepEqual(await chainAt(first), [second.dir]);
        await datapath.retarget(first.hook, from, { program: second.program, link: second.link });
        assert.deepEqual(await chainAt(first), [second.dir], 'the same once more');

        const back = { program: second.program, link: (await attachedAt(first))?.linkPin ?? '' };
        await datapath.retarget(first.hook, back, { program: first.program, link: first.link });
        assert.deepEqual(await chainAt(first), [first.dir]);

        await datapath.detach(first.hook, (await attachedAt(first))?.linkPin ?? '');
        await discard(fixtureOf(), first, second);
      });
    }

    test('attaches once for two requests, and accepts a detach of what is gone already', async () => {
      const { datapath } = fixtureOf();
      const root = await load(fixtureOf(), XDP_ROOT, 'xdpingress');

      await datapath.attach(root.hook, root.program, root.link);
      const once = await attachedAt(root);
      await datapath.attach(root.hook, root.program, root.link);
      assert.deepEqual(await attachedAt(root), once);

      await datapath.detach(root.hook, root.link);
      await datapath.detach(root.hook, root.link);
      await discard(fixtureOf(), root);
    });

    test('of an interface that does not exist is refused by name', async () => {
      const root = await load(fixtureOf(), XDP_ROOT, 'xdpingress');
      const hook = { iface: 'l3none0', direction: 'xdpingress' } as const;

      await refused(fixtureOf().datapath.attach(hook, root.program, root.link), 'INTERFACE_NOT_FOUND', 'l3none0');

      await discard(fixtureOf(), root);
    });

    test('that is held by another link is refused', async () => {
      const { datapath } = fixtureOf();
      const [holder, other] = [
        await load(fixtureOf(), XDP_ROOT, 'xdpingress'),
        await load(fixtureOf(), PORT_COUNT, 'xdpingress'),
      ];
      await datapath.attach(holder.hook, holder.program, holder.link);

      await refused(datapath.attach(other.hook, other.program, other.link), 'HOOK_OCCUPIED', 'xdpingress');
      assert.deepEqual(await chainAt(holder), [holder.dir]);

      await datapath.detach(holder.hook, holder.link);
      await discard(fixtureOf(), holder, other);
    });
  });

  test('discarding removes a loaded program, and accepts one that is gone already', async () => {
    const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress');
    const id = await programId(fixtureOf(), program);

    await fixtureOf().datapath.discard(program.dir);
    await fixtureOf().datapath.proveGone({ programs: [id], maps: [], links: [] });
    assert.equal(await observed(fixtureOf(), program), undefined);
    await fixtureOf().datapath.discard(program.dir);
  });

  test('a grace period ends', () => fixtureOf().datapath.grace());
}
