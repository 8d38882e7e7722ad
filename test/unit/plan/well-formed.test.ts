import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Tools } from '../../../src/apply/executor.js';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import { liveSubchains, type Observed } from '../../../src/domain/observed.js';
import { programPin } from '../../../src/domain/pins.js';
import type { Program } from '../../../src/domain/program.js';
import { plan } from '../../../src/plan/plan.js';
import type { Plan } from '../../../src/steps/plan.js';
import type { Step } from '../../../src/steps/step.js';
import { endedBy, madeBy, traitsOf } from '../../../src/steps/traits.js';
import { loadingCompanions, selfLoaded } from '../../fault/support-loading.js';
import { builtPackages, desiredAt, planContext, program } from '../../support/chains.js';
import { launchOf } from '../../support/companions.js';
import { reconcile } from '../../support/in-turn.js';
import { repeats } from '../../support/repeats.js';

/*
 * What is true for every plan, according to the traits of its steps.
 */

const BPFFS = '/bpffs';

const KINDS: Readonly<Record<string, Partial<Program>>> = {
  plain: {},
  slotless: { mapName: '' },
  accompanied: { companion: launchOf().companion },
  updated: { companion: launchOf({ cmdUpdate: 'update', updateArgs: { rate: '2' } }).companion },
  filled: { mapArgs: [{ name: 'mark_id', args: [{ key: 0, value: 7 }] }] },
  loading: selfLoaded(),
};

const chainOf = (direction: 'xdpingress' | 'ingress') =>
  fc
    .uniqueArray(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'd'),
        version: fc.constantFrom('1.0', '2.0'),
        kind: fc.constantFrom('plain', 'plain', ...Object.keys(KINDS)),
      }),
      { selector: ({ name }) => name, maxLength: 4 },
    )
    .map((members) =>
      members.map(({ name, version, kind }, index) => {
        // Only a TC program may have successors without a slot.
        const overrides = kind === 'slotless' && direction === 'xdpingress' ? {} : KINDS[kind]!;
        return program(name, index + 1, { version, ...overrides }, direction);
      }),
    );

const stateArbitrary = fc.tuple(chainOf('xdpingress'), chainOf('ingress')).map(([xdp, tc]): DesiredState => {
  const chains = [
    ...desiredAt({ iface: 'veth0', direction: 'xdpingress' }, ...xdp).chains,
    ...desiredAt({ iface: 'veth0', direction: 'ingress' }, ...tc).chains,
  ];
  return { chains, addresses: {} };
});

function phasesOf({ prepare, commit, stop, start, cleanup }: Plan): readonly Step[] {
  return [...prepare, ...commit, ...stop, ...start, ...cleanup];
}

/** Checks a plan step by step. */
function assertWellFormed(planned: Plan, observed: Observed): void {
  const there = new Set(observed.hooks.flatMap(({ loadedPrograms }) => loadedPrograms.map(({ dir }) => dir)));
  const isThere = (pin: string) => [...there].some((made) => pin === made || pin.startsWith(`${made}/`));
  const loads = planned.prepare.filter((step) => step.op === 'load');
  const fetched = new Set<string>();
  let astray = false;
  for (const step of phasesOf(planned)) {
    const { package: needed, pins, diverts } = traitsOf(step);
    const inWords = JSON.stringify(step);
    if (step.op === 'fetch') fetched.add(JSON.stringify(step.package));
    if (step.op === 'grace') astray = false;
    assert.ok(needed === undefined || fetched.has(JSON.stringify(needed)), `its package is not fetched: ${inWords}`);
    for (const pin of [...pins.uses, ...pins.takesOver]) assert.ok(isThere(pin), `${pin} is not there: ${inWords}`);
    for (const made of pins.makes) there.add(made);
    const load = step.op === 'link' && step.live ? loads.find(({ dir }) => step.to === programPin(dir)) : undefined;
    assert.ok(load === undefined || load.like !== undefined, `nobody knows whether this goes through: ${inWords}`);
    for (const ended of pins.ends) {
      assert.ok(!astray || !there.has(ended) || !isLoadDir(ended), `packets may be inside: ${inWords}`);
      there.delete(ended);
    }
    astray ||= diverts;
  }
  for (const step of planned.prepare) assert.equal(traitsOf(step).diverts, false, 'packets notice nothing of prepare');
}

/** Directories of loaded programs, and those that packets pass. */
function lookAt({ hooks }: Observed): { readonly there: ReadonlySet<string>; readonly passed: ReadonlySet<string> } {
  const live = hooks.flatMap(liveSubchains).flatMap(({ programs }) => programs);
  return {
    there: new Set(hooks.flatMap(({ loadedPrograms }) => loadedPrograms.map(({ dir }) => dir))),
    passed: new Set(live.map(({ dir }) => dir)),
  };
}

/**
 * Checks the last step's changes against its traits. The directory of a handover slot is visible only after it is
 * filled.
 */
function assertTrue(steps: readonly Step[], before: Observed, after: Observed): void {
  const step = steps.at(-1)!;
  const { diverts } = traitsOf(step);
  // Of all steps so far, since some overlap.
  const [made, ended] = [madeBy(steps), endedBy(steps)];
  const [then, now] = [lookAt(before), lookAt(after)];
  const came = [...now.there].filter((dir) => !then.there.has(dir));
  const went = [...then.there].filter((dir) => !now.there.has(dir));
  const left = [...then.passed].filter((dir) => !now.passed.has(dir));
  const inWords = JSON.stringify(step);
  for (const dir of came) assert.ok(made.has(dir), `${dir} has come by ${inWords}`);
  for (const dir of went) assert.ok(ended.has(dir), `${dir} has gone by ${inWords}`);
  assert.ok(diverts || left.length === 0, `packets have left ${left} by ${inWords}`);
}

function isLoadDir(pin: string): boolean {
  return pin.startsWith(`${BPFFS}/progs/`);
}

test('according to the traits of their steps, plans fetch what they need, use only what exists, and discard only what no packet is in', async () => {
  const seen = new Set<Step['op']>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(stateArbitrary, fc.constantFrom(true, true, true, false)), { minLength: 2, maxLength: 5 }),
      async (states) => {
        const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
        const companions = loadingCompanions(datapath, BPFFS);
        const tools: Tools = { datapath, packages: builtPackages, companions };
        let before: DesiredState = NOTHING_DESIRED;
        for (const [wanted, chaining] of [...states, [NOTHING_DESIRED, true] as const]) {
          const desired = chaining ? wanted : withoutChaining(wanted);
          const context = planContext(BPFFS, chaining);
          const observed = await datapath.observe();
          const planned = plan({ observed, before, desired, companions: await companions.observe() }, context);
          for (const { op } of phasesOf(planned)) seen.add(op);
          assertWellFormed(planned, observed);
          const steps: Step[] = [];
          let last = observed;
          const check = async () => {
            const now = await datapath.observe();
            if (steps.length > 0) assertTrue(steps, last, now);
            last = now;
          };
          const report = await reconcile({ before, desired }, tools, context, async (step) => {
            await check();
            steps.push(step);
          });
          assert.ifError(report.cause);
          assert.deepEqual([report.faults, report.leftovers], [[], []]);
          await check();
          before = desired;
        }
      },
    ),
    { numRuns: repeats({ usual: 15, full: 300 }) },
  );
  const usual: Step['op'][] = [
    'load',
    'make-handover',
    'capture',
    'link',
    'attach',
    'detach',
    'retarget',
    'grace',
    'discard',
  ];
  assert.deepEqual(
    usual.filter((op) => !seen.has(op)),
    [],
  );
});

/** Keeps only the first program of each hook. */
function withoutChaining({ chains, addresses }: DesiredState): DesiredState {
  return { chains: chains.map(({ hook, programs }) => ({ hook, programs: programs.slice(0, 1) })), addresses };
}
