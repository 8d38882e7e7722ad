import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tools } from '../../src/apply/executor.js';
import { MemoryCompanions } from '../../src/companions/memory.js';
import { MemoryDatapath } from '../../src/datapath/memory/datapath.js';
import { companionKey } from '../../src/domain/companion.js';
import type { ChainHook } from '../../src/domain/hook.js';
import { AgentError } from '../../src/errors.js';
import { Host } from '../../src/reconcile/host.js';
import { builtPackages, desiredAt, pathAt, planContext, program, restartPolicy } from '../support/chains.js';
import { launchOf } from '../support/companions.js';
import { alone } from '../support/in-turn.js';
import { log, metrics } from './support-crash.js';

const BPFFS = '/bpffs';
const hook: ChainHook = { iface: 'veth0', direction: 'xdpingress' };

class Stubborn extends MemoryCompanions {
  readonly #which: string;

  constructor(which: string) {
    super();
    this.#which = which;
  }

  override async start(...args: Parameters<MemoryCompanions['start']>): Promise<void> {
    if (args[0].package.name === this.#which) throw new AgentError('COMPANION_FAILED', 'it does not start');
    await super.start(...args);
  }
}

test('after a reboot, a companion that cannot be started does not prevent the start of its chain and other companions', async () => {
  // given a host with an empty kernel and three desired companions, one of which fails
  const datapath = new MemoryDatapath({ bpffs: BPFFS, interfaces: new Map([['veth0', 2]]) });
  const desired = desiredAt(
    hook,
    ...['a', 'b', 'c'].map((name, index) => program(name, index + 1, { companion: launchOf().companion })),
  );
  const companions = new Stubborn('b');
  const tools: Tools = { datapath, packages: builtPackages, companions };
  const context = planContext(BPFFS);
  const running = async (from: MemoryCompanions) =>
    (await from.observe()).map(({ launch }) => companionKey(launch)).toSorted();

  // when it is repaired
  const { done } = await alone(new Host({ tools, context, metrics, restartPolicy })).repair(desired, log, {
    before: null,
  });

  // then everything else runs
  assert.deepEqual(pathAt(await datapath.observe(), hook), ['a@1_0', 'b@1_0', 'c@1_0']);
  assert.deepEqual(await running(companions), ['veth0/xdpingress/a', 'veth0/xdpingress/c']);
  assert.ok(done.includes('veth0/xdpingress: starts the companion of c'), done.join('\n'));

  // and a command that includes the failing companion fails and does not change what runs
  const report = await alone(new Host({ tools, context, metrics, restartPolicy })).apply(desired, desired, log, {
    deadline: 0,
  });
  assert.deepEqual([report.status, report.faults[0]?.code, report.undone], ['failed', 'COMPANION_FAILED', true]);
  assert.deepEqual(await running(companions), ['veth0/xdpingress/a', 'veth0/xdpingress/c']);
});
