import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DIRECTIONS, type Direction } from '../../src/domain/hook.js';
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
  type Sample,
  TC_COUNT,
  tcRoot,
  XDP_ROOT,
} from './samples.js';

export function hookContract(fixtureOf: () => Fixture): void {
  /** Directories of the chain that stands at the hook of a generation. */
  async function chainAt({ hook }: Loaded): Promise<string[]> {
    return standingChain(hookAt(await fixtureOf().datapath.observe(), hook)).map(({ dir }) => dir);
  }

  async function attachedAt({ hook }: Loaded) {
    return liveAttachment(hookAt(await fixtureOf().datapath.observe(), hook));
  }

  describe('a slot', () => {
    test('names the successor, another one, and none', async () => {
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

    test('that is not there is reported', async () => {
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
    const ENTRIES: Readonly<Record<Direction, readonly [Sample, Sample]>> = {
      xdpingress: [XDP_ROOT, PORT_COUNT],
      ingress: [tcRoot('ingress'), TC_COUNT],
      egress: [tcRoot('egress'), TC_COUNT],
    };
    for (const direction of DIRECTIONS) {
      test(`at ${direction} takes a chain, shows it and lets it go`, async () => {
        const { datapath } = fixtureOf();
        const [root, program] = [
          await load(fixtureOf(), ENTRIES[direction][0], direction),
          await load(fixtureOf(), ENTRIES[direction][1], direction),
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
          await load(fixtureOf(), ENTRIES[direction][0], direction),
          await load(fixtureOf(), ENTRIES[direction][1], direction),
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

    test('attaches once what is asked for twice, and detaches what is gone already', async () => {
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

    test('of an interface that is not there is refused by name', async () => {
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

  test('discarding takes a generation away, and one that is gone already', async () => {
    const program = await load(fixtureOf(), PORT_COUNT, 'xdpingress');
    const id = await programId(fixtureOf(), program);

    await fixtureOf().datapath.discard(program.dir);
    await fixtureOf().datapath.proveGone({ programs: [id], maps: [], links: [] });
    assert.equal(await observed(fixtureOf(), program), undefined);
    await fixtureOf().datapath.discard(program.dir);
  });

  test('a grace period ends', () => fixtureOf().datapath.grace());
}
