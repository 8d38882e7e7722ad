import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryDatapath } from '../../../src/datapath/memory.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import type { Hook } from '../../../src/domain/hook.js';
import { reconcile } from '../../../src/reconcile.js';
import { builtPackages, desiredAt, noCompanions, planContext, program } from '../../support/chains.js';

const BPFFS = '/bpffs';
const hook: Hook = { iface: 'veth0', direction: 'xdpingress' };
const chain = (...names: string[]) => desiredAt(hook, ...names.map((name, index) => program(name, index + 1)));

/** The steps from the first that packets notice, in the order in which they were done. */
async function stepsBetween(from: DesiredState, to: DesiredState, failingFlip = 0): Promise<string[]> {
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  await reconcile({ before: NOTHING_DESIRED, desired: from }, tools, planContext(BPFFS));
  const steps: string[] = [];
  let flips = 0;
  await reconcile({ before: from, desired: to }, tools, planContext(BPFFS), (step, phase) => {
    if (phase !== 'prepare') steps.push(step.op);
    if (phase === 'commit' && step.op === 'link' && ++flips === failingFlip) throw new Error('injected');
  });
  return steps;
}

const relevant = (steps: readonly string[]) => steps.filter((op) => op === 'grace' || op === 'discard');

describe('the grace period', () => {
  it('lies between the flip and the unloading of what a packet may still be in', async () => {
    const steps = await stepsBetween(chain('a', 'b', 'c'), chain('a', 'c'));
    assert.deepEqual(relevant(steps), ['grace', 'discard']);
    assert.ok(steps.indexOf('link') < steps.indexOf('grace'), 'packets are diverted first');
  });

  it('lies between the detaching of a chain and its unloading', async () => {
    const steps = await stepsBetween(chain('a'), NOTHING_DESIRED);
    assert.deepEqual(relevant(steps), ['grace', 'discard', 'discard']);
  });

  it('is not waited for where no packet takes another way', async () => {
    assert.deepEqual(relevant(await stepsBetween(NOTHING_DESIRED, chain('a'))), []);
    assert.deepEqual(relevant(await stepsBetween(chain('a'), chain('a'))), []);
  });

  it('lies between the taking back of a flip and the unloading of what was put in', async () => {
    const egress = { iface: 'veth0', direction: 'egress' } as const;
    const both = (...names: string[]): DesiredState => {
      const marks = names.map((name, index) => program(name, index + 1, {}, 'egress'));
      return { chains: [...chain(...names).chains, ...desiredAt(egress, ...marks).chains], addresses: {} };
    };
    const steps = await stepsBetween(both('a'), both('a', 'b'), 2);
    // The first flip, the one that fails, and the first taken back.
    assert.deepEqual(steps, ['link', 'link', 'link', 'grace', 'discard', 'discard', 'prove']);
  });
});
