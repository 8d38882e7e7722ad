import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED, programsAt } from '../../../src/domain/desired.js';
import type { InterfaceHook } from '../../../src/domain/hook.js';
import { hookAt } from '../../../src/domain/observed.js';
import { publicMapPath } from '../../../src/domain/pins.js';
import { builtPackages, desiredAt, noCompanions, pathAt, planContext, program } from '../../support/chains.js';
import { reconcile } from '../../support/in-turn.js';
import { repeats } from '../../support/repeats.js';

const BPFFS = '/bpffs';
const hook: InterfaceHook = { iface: 'veth0', direction: 'xdpingress' };

const chainArbitrary = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      version: fc.constantFrom('1.0', '2.0'),
      enabled: fc.boolean(),
    }),
    { selector: ({ name }) => name, maxLength: 6 },
  )
  .map((members) =>
    desiredAt(
      hook,
      ...members.map(({ name, version, enabled }, index) => program(name, index + 1, { version, enabled })),
    ),
  );

function wantedPath(desired: DesiredState): string[] | undefined {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.length === 0 ? undefined : running.map(({ name, version }) => `${name}@${version.replace('.', '_')}`);
}

test('at every step of any transition a packet passes the old chain or the new one, and never a mixture', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(chainArbitrary, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (states, failing) => {
        const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
        const tools = { datapath, packages: builtPackages, companions: noCompanions };
        const context = planContext(BPFFS);
        let before: DesiredState = NOTHING_DESIRED;
        for (const [index, desired] of states.entries()) {
          const [from, to] = [wantedPath(before), wantedPath(desired)];
          let steps = 0;
          const report = await reconcile({ before, desired }, tools, context, async (_step, phase) => {
            const path = pathAt(await datapath.observe(), hook);
            assert.ok(
              [from, to].some((allowed) => JSON.stringify(allowed) === JSON.stringify(path)),
              `between: ${path}`,
            );
            steps += 1;
            if (failing && index % 2 === 1 && phase === 'commit') throw new Error('injected');
          });
          const observed = await datapath.observe();
          const path = pathAt(observed, hook);
          if (report.status === 'failed') {
            assert.deepEqual(path, from);
            assert.equal(report.undone, true);
            desired === before || assert.ok(steps > 0);
          } else {
            assert.deepEqual(path, to);
            before = desired;
          }
          const expected = wantedPath(before);
          const pinned = hookAt(observed, hook).loadedPrograms.length;
          assert.equal(
            pinned,
            expected === undefined ? 0 : expected.length + 1,
            'nothing but the chain and its root is pinned',
          );
        }
      },
    ),
    { numRuns: repeats({ usual: 60, full: 300 }) },
  );
});

test('every live map has its public name, and no name of a removed map is left', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(chainArbitrary, { minLength: 1, maxLength: 5 }), async (states) => {
      const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
      let before: DesiredState = NOTHING_DESIRED;
      for (const desired of states) {
        await reconcile(
          { before, desired },
          { datapath, packages: builtPackages, companions: noCompanions },
          planContext(BPFFS),
        );
        before = desired;
        const observed = await datapath.observe();
        const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
        const slots = running.map(({ name, version }) => publicMapPath(BPFFS, { hook, name, version }, 'mark_next'));
        for (const [index, path] of slots.entries()) {
          const loaded = hookAt(observed, hook).loadedPrograms.find(({ name }) => name === running[index]!.name);
          assert.equal(observed.publicMaps.get(path), loaded?.slot?.mapId);
        }
        const owners = new Set([...observed.publicMaps.keys()].map((path) => path.split('/')[3]));
        const expected = running.length === 0 ? [] : ['xdp-root', ...running.map(({ name }) => name)];
        assert.deepEqual([...owners].toSorted(), expected.toSorted());
      }
    }),
    { numRuns: repeats({ usual: 20, full: 100 }) },
  );
});

test('the same request again plans nothing and changes no program id', async () => {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const desired = desiredAt(hook, program('a', 1), program('b', 2));
  const first = await reconcile({ before: NOTHING_DESIRED, desired }, tools, planContext(BPFFS));
  const second = await reconcile({ before: desired, desired }, tools, planContext(BPFFS));

  assert.equal(first.status, 'applied');
  assert.equal(second.status, 'unchanged');
  const ids = (report: typeof first) => report.outcomes.map(({ programId }) => programId);
  assert.deepEqual(ids(second), ids(first));
});

test('a change in the middle loads only what changed', async () => {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const chain = (version: string) => desiredAt(hook, program('a', 1), program('b', 2, { version }), program('c', 3));
  const first = await reconcile({ before: NOTHING_DESIRED, desired: chain('1.0') }, tools, planContext(BPFFS));
  const second = await reconcile({ before: chain('1.0'), desired: chain('2.0') }, tools, planContext(BPFFS));

  const idOf = (report: typeof first, name: string) => report.outcomes.find((o) => o.name === name)?.programId;
  assert.deepEqual(
    second.outcomes.map(({ result }) => result),
    ['unchanged', 'updated', 'unchanged'],
  );
  assert.equal(idOf(second, 'a'), idOf(first, 'a'));
  assert.equal(idOf(second, 'c'), idOf(first, 'c'));
  assert.notEqual(idOf(second, 'b'), idOf(first, 'b'));
});
