import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryDatapath } from '../../../src/datapath/memory/datapath.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../src/domain/desired.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { builtPackages, desiredAt, noCompanions, planContext, program } from '../../support/chains.js';
import { reconcile } from '../../support/in-turn.js';

const BPFFS = '/bpffs';
const hook: ChainHook = { iface: 'veth0', direction: 'xdpingress' };
const chain = (...names: string[]) => desiredAt(hook, ...names.map((name, index) => program(name, index + 1)));

/** The steps from the first one that packets notice, in the order in which they were done. */
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
  it('is between the write of a live slot and the unloading of programs that a packet may still be in', async () => {
    const steps = await stepsBetween(chain('a', 'b', 'c'), chain('a', 'c'));
    assert.deepEqual(relevant(steps), ['grace', 'discard']);
    assert.ok(steps.indexOf('link') < steps.indexOf('grace'), 'packets are diverted first');
  });

  it('is between the detaching of a chain and its unloading', async () => {
    const steps = await stepsBetween(chain('a'), NOTHING_DESIRED);
    assert.deepEqual(relevant(steps), ['grace', 'discard', 'discard']);
  });

  it('is left out if no packet takes another path', async () => {
    assert.deepEqual(relevant(await stepsBetween(NOTHING_DESIRED, chain('a'))), []);
    assert.deepEqual(relevant(await stepsBetween(chain('a'), chain('a'))), []);
  });

  it('is between the rollback of a slot and the unloading of what was in it', async () => {
    const egress = { iface: 'veth0', direction: 'egress' } as const;
    const both = (...names: string[]): DesiredState => {
      const marks = names.map((name, index) => program(name, index + 1, {}, 'egress'));
      return { chains: [...chain(...names).chains, ...desiredAt(egress, ...marks).chains], addresses: {} };
    };
    const steps = await stepsBetween(both('a'), both('a', 'b'), 2);
    // The first write, the one that fails, and the rollback of the first.
    assert.deepEqual(steps, ['link', 'link', 'link', 'grace', 'discard', 'discard', 'prove']);
  });
});
