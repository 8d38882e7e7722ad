import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hookAt, liveSubchains } from '../../src/domain/observed.js';
import { furtherLinkPin } from '../../src/domain/pins.js';
import { discard, type Fixture, type Loaded, load, refused, TC_TAIL, tcRoot } from './samples.js';

/** Several links at one TC hook. */
export function linkContract(fixtureOf: () => Fixture): void {
  const linkOf = ({ dir }: Loaded) => furtherLinkPin(fixtureOf().bpffs, dir);

  for (const direction of ['ingress', 'egress'] as const) {
    describe(`links at ${direction}`, () => {
      /** Directories of the first program of each link, in the order of the links. */
      async function orderAt(): Promise<(string | undefined)[]> {
        const { iface, datapath } = fixtureOf();
        const observed = hookAt(await datapath.observe(), { iface, direction });
        return liveSubchains(observed).map(({ programs }) => programs[0]?.dir);
      }

      const loadTails = (count: number) =>
        Promise.all(Array.from({ length: count }, () => load(fixtureOf(), TC_TAIL, direction)));

      async function close(...loaded: readonly Loaded[]): Promise<void> {
        for (const found of loaded) await fixtureOf().datapath.detach(found.hook, linkOf(found));
        await discard(fixtureOf(), ...loaded);
      }

      test('run in the order of their places', async () => {
        const { datapath } = fixtureOf();
        const [a, b, c, d] = (await loadTails(4)) as [Loaded, Loaded, Loaded, Loaded];
        const { hook } = a;

        await datapath.attach(hook, b.program, linkOf(b));
        await datapath.attach(hook, d.program, linkOf(d));
        await datapath.attach(hook, c.program, linkOf(c), { side: 'behind', link: linkOf(b) });
        await datapath.attach(hook, a.program, linkOf(a), { side: 'before', link: linkOf(b) });
        assert.deepEqual(await orderAt(), [a.dir, b.dir, c.dir, d.dir]);

        await datapath.detach(hook, linkOf(b));
        assert.deepEqual(await orderAt(), [a.dir, c.dir, d.dir]);
        await datapath.attach(hook, b.program, linkOf(b), { side: 'behind', link: linkOf(d) });
        assert.deepEqual(await orderAt(), [a.dir, c.dir, d.dir, b.dir]);

        await close(a, b, c, d);
      });

      test('keep their place when they are requested again, and when their program is swapped', async () => {
        const { datapath } = fixtureOf();
        const [a, b, c] = (await loadTails(3)) as [Loaded, Loaded, Loaded];
        const { hook } = a;
        await datapath.attach(hook, a.program, linkOf(a));
        await datapath.attach(hook, b.program, linkOf(b));

        await datapath.attach(hook, a.program, linkOf(a), { side: 'behind', link: linkOf(b) });
        assert.deepEqual(await orderAt(), [a.dir, b.dir]);
        await datapath.retarget(hook, { program: a.program, link: linkOf(a) }, { program: c.program, link: linkOf(c) });
        assert.deepEqual(await orderAt(), [c.dir, b.dir]);

        await close(b, c);
        await discard(fixtureOf(), a);
      });

      test('attach each program only once', async () => {
        const { datapath } = fixtureOf();
        const [a, b] = (await loadTails(2)) as [Loaded, Loaded];
        await datapath.attach(a.hook, a.program, linkOf(a));

        await refused(datapath.attach(a.hook, a.program, linkOf(b)), 'HOOK_OCCUPIED', direction);
        assert.deepEqual(await orderAt(), [a.dir]);

        await close(a);
        await discard(fixtureOf(), b);
      });

      test('cannot be placed next to one that does not exist', async () => {
        const { datapath } = fixtureOf();
        const [a, b] = (await loadTails(2)) as [Loaded, Loaded];

        const place = { side: 'behind', link: linkOf(b) } as const;
        await assert.rejects(datapath.attach(a.hook, a.program, linkOf(a), place), ({ message }: Error) =>
          message.includes(linkOf(b)),
        );
        assert.deepEqual(await orderAt(), []);

        await discard(fixtureOf(), a, b);
      });

      test('hold the chain behind a root and the programs after it', async () => {
        const { datapath } = fixtureOf();
        const [first, second] = (await loadTails(2)) as [Loaded, Loaded];
        const root = await load(fixtureOf(), tcRoot(direction), direction);
        await datapath.setSlot(root.slot, first.program);
        await datapath.attach(root.hook, root.program, root.link);
        await datapath.attach(root.hook, second.program, linkOf(second), { side: 'behind', link: root.link });

        const { iface } = fixtureOf();
        const subchains = liveSubchains(hookAt(await datapath.observe(), { iface, direction }));
        assert.deepEqual(
          subchains.map(({ programs }) => programs.map(({ dir }) => dir)),
          [[root.dir, first.dir], [second.dir]],
        );

        await datapath.detach(root.hook, root.link);
        await close(second);
        await discard(fixtureOf(), root, first);
      });
    });
  }
}
