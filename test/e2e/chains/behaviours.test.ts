import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { assertChain, marks, resultsOf } from '../support/chain.js';
import { attachedXdp, type KernelState, numberIn, programIdsOf } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * Behaviours, under the names that they have in the test suites of xdp-tools, bpfman and cilium/ebpf.
 */

let stage: Stage;
before(async () => {
  stage = await Stage.open({ host: 'behaviours' });
});
after(() => stage.close());
beforeEach(async () => {
  await stage.deploy({});
});

/** Starts a chain of numbered markers, and returns its state in the kernel. */
async function givenChain(numbers: readonly number[]): Promise<KernelState> {
  await stage.deploy({ xdp_ingress: marks(numbers) });
  await assertChain(stage, named(numbers));
  return stage.kernel();
}

function named(numbers: readonly number[]): string[] {
  return numbers.map((number) => `xdp-mark-${number}@1.0`);
}

/** The packets of ordinary traffic that a program has counted. */
async function packetsAt(number: number): Promise<number> {
  return (await numberIn(stage.xdpMap(`xdp-mark-${number}`, '1.0', 'mark_packets'))) ?? 0;
}

for (const gone of [1, 2, 3]) {
  const survivors = [1, 2, 3].filter((number) => number !== gone);
  test(`survivor keeps counting after a member is unloaded: the ${['head', 'middle', 'tail'][gone - 1]}`, async () => {
    await givenChain([1, 2, 3]);
    await stage.receive(30, DISCARD_PORT);
    const last = survivors.at(-1)!;
    const before = await eventually(
      () => packetsAt(last),
      (count) => count >= 70,
      'the packets should arrive',
    );
    const ids = programIdsOf(await stage.chain());

    await stage.delete({ xdp_ingress: [`xdp-mark-${gone}`] });

    // The same programs run, and their counters continue.
    const left = programIdsOf(await stage.chain());
    assert.deepEqual(left, Object.fromEntries(Object.entries(ids).filter(([name]) => name !== `xdp-mark-${gone}`)));
    await stage.receive(12, DISCARD_PORT);
    await eventually(
      () => packetsAt(last),
      (count) => count >= before + 12,
      '12 packets more should arrive',
    );
    assert.deepEqual(await Promise.all(survivors.map(packetsAt)), [before + 12, before + 12]);
    await assertChain(stage, named(survivors));
  });
}

test('fill, drain, refill', async () => {
  const all = marks([1, 2, 3, 4, 5]);
  const here = new Set<number>();
  const fill = async (number: number) => {
    assert.equal((await stage.add({ xdp_ingress: [all[number - 1]!] })).status, 'applied');
    await assertChain(stage, named([...here.add(number)].toSorted()));
  };
  const drain = async (number: number) => {
    assert.equal((await stage.delete({ xdp_ingress: [`xdp-mark-${number}`] })).status, 'applied');
    here.delete(number);
    if (here.size > 0) await assertChain(stage, named([...here].toSorted()));
  };

  // The chain is filled from the middle outward, and drained from the outside inward: neither is its own order.
  for (const number of [3, 2, 4, 1, 5]) await fill(number);
  for (const number of [1, 5, 3, 2, 4]) await drain(number);
  assert.equal(await attachedXdp(stage.bed.iface), undefined);
  const drained = await stage.kernel();
  assert.deepEqual(drained.entries, []);
  assert.deepEqual(await stage.leaked(drained), []);
  for (const number of [5, 1, 3]) await fill(number);
});

test('tie-break: two programs with one seq_id are refused, and the answer names both', async () => {
  const standing = await givenChain([1, 2]);
  const [first, second] = marks([1, 2]) as [PayloadProgram, PayloadProgram];
  const third = payloadProgram('xdp-mark-3', { seq_id: second.seq_id });

  const deployed = await stage.deploy({ xdp_ingress: [first, second, third] });
  assert.deepEqual([deployed.status, deployed.code], ['rejected', 'DUPLICATE_SEQ_ID']);
  assert.equal(deployed.errors[0]?.path, '0.bpf_programs.xdp_ingress.2.seq_id');
  assert.match(deployed.message ?? '', /20.*xdp-mark-2.*xdp-mark-3/);

  const added = await stage.add({ xdp_ingress: [third] });
  assert.deepEqual([added.status, added.code], ['rejected', 'SEQ_ID_TAKEN']);
  assert.equal(added.errors[0]?.path, '0.bpf_programs.xdp_ingress.0.seq_id');
  assert.match(added.message ?? '', /20.*xdp-mark-2.*xdp-mark-3/);

  assert.deepEqual(await stage.kernel(), standing);
});

test('failed add leaves the old set intact', async () => {
  const standing = await givenChain([1, 2]);

  const added = await stage.add({ xdp_ingress: [payloadProgram('broken', { seq_id: 15 })] });

  assert.deepEqual([added.status, added.code, added.undone], ['failed', 'VERIFIER_REJECTED', true]);
  assert.deepEqual(resultsOf(added), { 'xdp-mark-1': 'unchanged', 'xdp-mark-2': 'unchanged', broken: 'failed' });
  assert.deepEqual(await stage.kernel(), standing);
  await assertChain(stage, named([1, 2]));

  // and the failed program is not desired either: it does not disturb the next add
  assert.equal((await stage.add({ xdp_ingress: [payloadProgram('xdp-mark-3', { seq_id: 15 })] })).status, 'applied');
  await assertChain(stage, named([1, 3, 2]));
});

test('verifier log surfaced', async () => {
  const { code, message, errors } = await stage.deploy({ xdp_ingress: [payloadProgram('broken')] });

  assert.equal(code, 'VERIFIER_REJECTED');
  assert.match(message ?? '', /verifier refused broken.*invalid access to packet/i);
  assert.equal(errors[0]?.path, '0.bpf_programs.xdp_ingress.0');
  // The answer has the last lines of the log: registers, and then the verdict.
  assert.match(errors[0]?.detail ?? '', /R\d.*\n(.*\n)*.*invalid access to packet/);
  // and the agent's log has all of it
  const [refusal] = stage.agent
    .logs()
    .filter(({ msg }) => msg === 'cannot apply')
    .slice(-1);
  assert.match(JSON.stringify(refusal), /cause.*0: R1=ctx.*invalid access to packet/s);
});

test('third program of a load fails', async () => {
  const standing = await givenChain([4]);
  const ids = programIdsOf(await stage.chain());

  // when one command updates a program and adds three more, and the verifier refuses the third of them
  const [first, second, fourth] = marks([1, 2, 4]) as [PayloadProgram, PayloadProgram, PayloadProgram];
  const { status, code, errors, programs, undone } = await stage.deploy({
    xdp_ingress: [first, second, payloadProgram('broken', { seq_id: 25 }), { ...fourth, version: '2.0' }],
  });

  // then the whole command fails, and nothing has changed
  assert.deepEqual([status, code, undone], ['failed', 'VERIFIER_REJECTED', true]);
  assert.equal(errors[0]?.path, '0.bpf_programs.xdp_ingress.2');
  assert.deepEqual(
    programs.map(({ name, result, prog_id: id }) => [name, result, id]),
    [
      ['broken', 'failed', undefined],
      ['xdp-mark-4', 'unchanged', ids['xdp-mark-4']],
    ],
  );
  assert.deepEqual(await stage.kernel(), standing);
  await assertChain(stage, named([4]));
});
