import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Fd, openPin } from '../../../../src/datapath/libbpf/abi/fd.js';
import { libbpf } from '../../../../src/datapath/libbpf/abi/ffi.js';
import { interfaceIndex } from '../../../../src/datapath/libbpf/abi/interfaces.js';
import { createLinkNextTo, orderedPrograms } from '../../../../src/datapath/libbpf/attach/mprog.js';
import { TCX_ATTACH_TYPE } from '../../../../src/datapath/libbpf/attach/tc.js';
import { LibbpfDatapath } from '../../../../src/datapath/libbpf/datapath.js';
import { type DesiredState, NOTHING_DESIRED } from '../../../../src/domain/desired.js';
import { hookAt } from '../../../../src/domain/observed.js';
import { command, json, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, load, TC_TAIL } from '../../../contract/samples.js';
import { builtPackages, desiredAt, noCompanions, planContext, program } from '../../../support/chains.js';
import { reconcile } from '../../../support/in-turn.js';
import { loader } from '../../../support/loader.js';
import { builtObject } from '../../../support/project.js';

/*
 * Chains of several TCX links beside foreign TCX programs.
 */

let kernel: KernelFixture;
let before: DesiredState;
const strangers: Fd[] = [];
beforeEach(async () => {
  kernel = await kernelFixture({ tc: 'tcx' });
  before = NOTHING_DESIRED;
});
afterEach(async () => {
  for (const link of strangers.splice(0)) link[Symbol.dispose]();
  await kernel.close();
});

/** Applies a chain of programs with these names, none of which has a slot. */
async function run(...names: string[]): Promise<void> {
  const { datapath, iface } = kernel;
  const tail = { mapName: '', objectFile: 'tc_tail.bpf.o', entryFunction: 'tc_tail' };
  const programs = names.map((name, index) => program(name, index + 1, tail, 'ingress'));
  const desired = desiredAt({ iface, direction: 'ingress' }, ...programs);
  const tools = { datapath, packages: builtPackages, companions: noCompanions };
  const { status, faults } = await reconcile({ before, desired }, tools, planContext(kernel.bpffs));
  assert.equal(status, 'applied', JSON.stringify(faults));
  before = desired;
}

/** Loads a foreign program, and attaches it behind everything, or directly behind one of ours. */
async function attachStranger(behind?: string): Promise<number> {
  const pin = `${kernel.bpffs}/stranger`;
  await command('bpftool', 'prog', 'load', builtObject('tc_mark'), pin, 'type', 'classifier');
  const { id } = await json<{ id: number }>('bpftool', '-j', 'prog', 'show', 'pinned', pin);
  const ifindex = interfaceIndex(kernel.iface);
  using loaded = openPin('prog', pin);
  if (behind === undefined) {
    strangers.push(new Fd(libbpf().bpf_link_create(loaded.number, ifindex, TCX_ATTACH_TYPE.ingress, null)));
  } else {
    using link = openPin('link', await linkOf(behind));
    strangers.push(new Fd(createLinkNextTo({ side: 'behind', link }, loaded, ifindex, TCX_ATTACH_TYPE.ingress)));
  }
  await command('rm', pin);
  return id;
}

async function observedHook() {
  return hookAt(await kernel.datapath.observe(), { iface: kernel.iface, direction: 'ingress' });
}

async function linkOf(name: string): Promise<string> {
  return (await observedHook()).attachments.find(({ linkPin }) => linkPin.includes(`/${name}/`))!.linkPin;
}

/** What the kernel runs: our programs by name, foreign ones by id. */
async function order(): Promise<(string | number)[]> {
  const { loadedPrograms } = await observedHook();
  return orderedPrograms(interfaceIndex(kernel.iface), TCX_ATTACH_TYPE.ingress).map(
    (id) => loadedPrograms.find(({ programId }) => programId === id)?.name ?? id,
  );
}

test('foreign programs keep their places among ours, whatever changes', async () => {
  // given foreign programs before, between and behind our links
  const first = await attachStranger();
  await run('a', 'b');
  const last = await attachStranger();
  const between = await attachStranger('tc-root');
  assert.deepEqual(await order(), [first, 'tc-root', between, 'b', last]);

  // when links are added, moved and removed: each new one directly behind our link before it
  await run('a', 'c', 'b');
  assert.deepEqual(await order(), [first, 'tc-root', 'c', between, 'b', last]);
  await run('a', 'b', 'c');
  assert.deepEqual(await order(), [first, 'tc-root', 'b', 'c', between, last]);
  await run('a');
  assert.deepEqual(await order(), [first, 'tc-root', between, last]);
  await run();

  // then the foreign programs are still attached
  assert.deepEqual(await order(), [first, between, last]);
});

test('a first link that others have removed is restored before the others', async () => {
  const first = await attachStranger();
  await run('a', 'b', 'c');
  const last = await attachStranger();

  await kernel.datapath.detach({ iface: kernel.iface, direction: 'ingress' }, await linkOf('tc-root'));
  assert.deepEqual(await order(), [first, 'b', 'c', last]);
  await run('a', 'b', 'c');

  assert.deepEqual(await order(), [first, 'tc-root', 'b', 'c', last]);
  await run();
});

test('as many programs as the kernel allows are attached, and one more is refused', async () => {
  const names = Array.from({ length: 33 }, (_, index) => `p${index}`);
  for (let others = 0; others < 30; others += 1) await attachStranger();
  await run(...names);
  assert.equal((await order()).length, 63);

  await assert.rejects(run(...names.toSpliced(5, 0, 'more')), /has as many TCX programs as the kernel allows/);

  assert.equal((await order()).length, 63);
  await run();
});

test('an earlier filter that links replace is observed beside them, and can be restored', async () => {
  const filters = new LibbpfDatapath({ bpffs: kernel.bpffs, loader, tc: 'clsact' });
  const [one, other] = [await load(kernel, TC_TAIL, 'ingress'), await load(kernel, TC_TAIL, 'ingress')];
  const kinds = async () => (await observedHook()).attachments.map(({ kind }) => kind);
  await filters.attach(one.hook, one.program, one.link);

  await kernel.datapath.attach(other.hook, other.program, other.link);
  assert.deepEqual(await kinds(), ['tcx', 'clsact']);
  await kernel.datapath.detach(one.hook, '');
  assert.deepEqual(await kinds(), ['tcx']);
  await kernel.datapath.attach(one.hook, one.program, '');
  assert.deepEqual(await kinds(), ['tcx', 'clsact']);

  await kernel.datapath.detach(other.hook, other.link);
  await kernel.datapath.detach(one.hook, '');
  await discard(kernel, one, other);
});
