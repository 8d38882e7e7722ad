import assert from 'node:assert/strict';
import { unlink } from 'node:fs/promises';
import { afterEach, beforeEach, test } from 'node:test';
import type { Observer } from '../../../src/apply/executor.js';
import { answerReported } from '../../../src/commands/answer.js';
import type { Command } from '../../../src/domain/command.js';
import { type DesiredState, NOTHING_DESIRED, normalize } from '../../../src/domain/desired.js';
import type { ChainHook } from '../../../src/domain/hook.js';
import { hookAt, type Observed, standingChain } from '../../../src/domain/observed.js';
import { publicMapPath, slotPin } from '../../../src/domain/pins.js';
import type { Program } from '../../../src/domain/program.js';
import type { Acknowledgement } from '../../../src/messages/ack.js';
import { Host } from '../../../src/reconcile/host.js';
import { createLogger } from '../../../src/telemetry/log.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { type KernelFixture, kernelFixture } from '../../contract/kernel.js';
import { builtPackages, noCompanions, pathAt, planContext, program, restartPolicy } from '../../support/chains.js';
import type { Direction } from '../../support/directions.js';
import { alone, type LoneHost } from '../../support/in-turn.js';
import { existing } from '../../support/kernel-ids.js';

/*
 * What a command that fails half-way leaves in the kernel. The host runs in this process, so that the test can act
 * between two of its steps.
 */

const log = createLogger({ level: 'silent', host: 'undo' });
const metrics = new Metrics('undo');

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(async () => {
  await hostWith().apply(NOTHING_DESIRED, NOTHING_DESIRED, log);
  await kernel.close();
});

function hostWith(observer: Observer = () => {}): LoneHost {
  const { datapath, bpffs } = kernel;
  return alone(
    new Host({
      tools: { datapath, packages: builtPackages, companions: noCompanions },
      context: planContext(bpffs),
      metrics,
      restartPolicy,
      observer,
    }),
  );
}

function hook(direction: Direction): ChainHook {
  return { iface: kernel.iface, direction };
}

function desired(chains: Readonly<Partial<Record<Direction, readonly Program[]>>>): DesiredState {
  const listed = Object.entries(chains) as [Direction, readonly Program[]][];
  return normalize({
    chains: listed.map(([direction, programs]) => ({ hook: hook(direction), programs })),
    addresses: {},
  });
}

async function pathsNow(...directions: Direction[]): Promise<(string[] | undefined)[]> {
  const observed = await kernel.datapath.observe();
  return directions.map((direction) => pathAt(observed, hook(direction)));
}

/** The objects of the host in the kernel and in the bpffs. */
async function ours(): Promise<Pick<Observed, 'hooks' | 'publicMaps'>> {
  const { hooks, publicMaps } = await kernel.datapath.observe();
  return { hooks, publicMaps };
}

/** Applies a deploy and returns its acknowledgement. */
async function deploy(before: DesiredState, after: DesiredState, observer: Observer): Promise<Acknowledgement> {
  const report = await hostWith(observer).apply(before, after, log);
  const receipt = {
    host: 'undo',
    delivery: { id: 'c1', verb: 'deploy', seq: 1 },
    gen: undefined,
    receivedAt: new Date(),
  };
  const command: Command = { verb: 'deploy', chains: after.chains, addresses: {} };
  return answerReported(receipt, command, report);
}

test('third program of a load fails: the first two are gone from the kernel', async () => {
  // given a chain, and a command with three new programs, the third of which the verifier refuses
  const before = desired({ xdpingress: [program('a', 1)] });
  await hostWith().apply(NOTHING_DESIRED, before, log);
  const broken = { objectFile: 'broken.bpf.o', entryFunction: 'xdp_broken', mapName: 'broken_next' };
  const after = desired({ xdpingress: [program('a', 1), program('b', 2), program('c', 3), program('d', 4, broken)] });
  const standing = await ours();
  const ids = new Set<number>();

  // when it is applied
  const answer = await deploy(before, after, async () => {
    const { loadedPrograms } = hookAt(await kernel.datapath.observe(), hook('xdpingress'));
    for (const { programId } of loadedPrograms) ids.add(programId!);
  });

  // then two more programs were loaded, and have been removed again
  assert.deepEqual([answer.status, answer.code, answer.undone], ['failed', 'VERIFIER_REJECTED', true]);
  assert.deepEqual(await ours(), standing);
  const left = standing.hooks.flatMap(({ loadedPrograms }) => loadedPrograms.map(({ programId }) => programId));
  assert.equal(ids.size, left.length + 2);
  assert.deepEqual(new Set(existing('prog', ids)), new Set(left));
});

test('failed rollback reported as such: the answer says what is left, and the next repair fixes it', async () => {
  // given chains at two hooks, and a command that changes both
  const before = desired({ xdpingress: [program('a', 1)], ingress: [program('x', 1, {}, 'ingress')] });
  const after = desired({
    xdpingress: [program('a', 1, { version: '2.0' })],
    ingress: [program('x', 1, { version: '2.0' }, 'ingress')],
  });
  await hostWith().apply(NOTHING_DESIRED, before, log);
  const observed = await kernel.datapath.observe();
  const roots = (['xdpingress', 'ingress'] as const).map((at) => standingChain(hookAt(observed, hook(at)))[0]!);

  // when somebody removes the slots of both roots just before the second one is written
  let flips = 0;
  const answer = await deploy(before, after, async (step, phase) => {
    if (phase !== 'commit' || step.op !== 'link' || flips++ !== 1) return;
    for (const { hook: at, name, dir } of roots) {
      const { slotMap, version } = planContext(kernel.bpffs).roots[at.direction];
      await unlink(publicMapPath(kernel.bpffs, { hook: at, name, version }, slotMap));
      await unlink(slotPin(dir));
    }
  });

  // then neither the second flip nor the rollback of the first one is possible, and the answer names both
  assert.equal(flips, 2);
  assert.deepEqual([answer.status, answer.code, answer.undone], ['failed', 'KERNEL', false]);
  assert.match(answer.message ?? '', /tc-root.*slot/);
  const left = answer.errors.filter(({ code }) => code === 'LEFTOVER').map(({ message }) => message);
  assert.ok(
    left.some((message) => /xdp-root.*slot/.test(message)),
    JSON.stringify(answer.errors),
  );

  // and the next repair restores the former state of both hooks
  await hostWith().repair(before, log);
  assert.deepEqual(await pathsNow('xdpingress', 'ingress'), [['a@1_0'], ['x@1_0']]);
  assert.equal((await hostWith().apply(before, before, log)).status, 'unchanged');
});
