import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { type LoadedObject, PrivateBpffs } from '../../support/bpftool.js';
import { existing } from '../../support/kernel-ids.js';
import type { PayloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { createTestbed, mountBpffs } from '../../support/testbed.js';
import { run } from '../../support/tool.js';
import { assertChain, assertLinked, assertPublicMaps, loadedMap, mapOf, marks, resultsOf } from '../support/chain.js';
import { attachedXdp, bpftool, numberIn, pathsIn, programIdsOf } from '../support/kernel.js';
import { eventually, PLATFORM, PROBE_PORT, Stage } from '../support/stage.js';

/*
 * What l3afd, the predecessor, did wrong on the datapath. Each test names one defect and shows that it is not present
 * here. (The tests of probes cover the defect of probe links.)
 */

/** Packets per second. */
const RATE = 2_000;
const ALL = ['xdp-mark-1@1.0', 'xdp-mark-2@1.0', 'xdp-mark-3@1.0'];

let stage: Stage;
before(async () => {
  const package_ = { name: 'xdp-mark-2', platform: PLATFORM, artifact: 'xdp-mark-2.tar.gz' };
  const refused = { ...package_, version: '3.0', files: { 'xdp_mark.bpf.o': builtObject('broken') } };
  stage = await Stage.open({ host: 'defects', packages: [refused], env: { L3AF_RECONCILE_INTERVAL: '200ms' } });
});
after(() => stage.close());
beforeEach(async () => {
  await stage.deploy({});
  await stage.deploy({ xdp_ingress: marks([1, 2, 3]) });
});

/** The chain 1, 2, 3, with one program in a different version. */
function withVersion(number: number, version: string): PayloadProgram[] {
  return marks([1, 2, 3]).map((program) => (program.seq_id === 10 * number ? { ...program, version } : program));
}

test('l3afd defect 1: a deleted tail keeps running', async (t) => {
  // given the tail's counter with an additional pin
  const keep = await mountBpffs();
  t.after(() => keep.unmount());
  const counter = join(keep.path, 'seen');
  await assertChain(stage, ALL);
  await bpftool('map', 'pin', 'pinned', stage.xdpMap('xdp-mark-3', '1.0', 'mark_seen'), counter);
  const { 'xdp-mark-3': tail } = programIdsOf(await stage.chain());
  const seen = await numberIn(counter);
  assert.ok(seen! > 0);

  // when the tail is deleted
  await stage.delete({ xdp_ingress: ['xdp-mark-3'] });

  // then packets end at its predecessor, and the kernel no longer has the tail
  assert.deepEqual(existing('prog', [tail!]), []);
  await assertChain(stage, ALL.slice(0, 2));
  assert.equal(await numberIn(counter), seen);
});

test('l3afd defect 2: a reorder makes a loop', async () => {
  for (const order of [
    [1, 3, 2],
    [3, 1, 2],
    [2, 1, 3],
    [2, 3, 1],
    [3, 2, 1],
    [1, 2, 3],
  ]) {
    assert.equal((await stage.deploy({ xdp_ingress: marks(order) })).status, 'applied');
    // Each program counts each packet once, and packets take the requested way.
    await assertChain(
      stage,
      order.map((number) => `xdp-mark-${number}@1.0`),
    );
  }
});

test('l3afd defect 3: an update opens a gap, for good if the new program does not load', async () => {
  const lost = await stage.bed.lost();
  const before = programIdsOf(await stage.chain());
  const traffic = await stage.startTraffic(PROBE_PORT, RATE);

  // when the middle program is replaced, ten times by one that does not load, and then by one that does
  for (let time = 1; time <= 10; time++) {
    const next = { version: '3.0', entry_function_name: 'xdp_broken', map_name: 'broken_next', map_args: [] };
    const ack = await stage.deploy({ xdp_ingress: withVersion(2, '1.0').with(1, { ...marks([1, 2])[1]!, ...next }) });
    assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', 'VERIFIER_REJECTED', true]);
  }
  assert.deepEqual(programIdsOf(await stage.chain()), before);
  assert.equal((await stage.deploy({ xdp_ingress: withVersion(2, '2.0') })).status, 'applied');

  // then every packet has passed all three
  const packets = (await traffic.stop()) - ((await stage.bed.lost()) - lost);
  const [first, , tail] = (await assertLinked(stage, ALL.with(1, 'xdp-mark-2@2.0'))).members.slice(1);
  const seenBy = async (member = tail!) => (await numberIn(mapOf(stage, member, 'mark_seen'))) ?? 0;
  await eventually(
    () => seenBy(),
    (seen) => seen >= packets,
    `${packets} packets should reach the tail`,
  );
  assert.deepEqual([await seenBy(first), await seenBy(tail)], [packets, packets]);
  assert.deepEqual(await pathsIn(mapOf(stage, tail!, 'mark_paths')), { '1-2-3': packets });
});

for (const number of [1, 2, 3]) {
  const where = ['head', 'middle', 'tail'][number - 1];
  test(`l3afd defects 4 and 5: a version change waits for the old pins, and what is reloaded is not relinked: at the ${where}`, async () => {
    for (const version of ['2.0', '1.0']) {
      const { status, programs } = await stage.deploy({ xdp_ingress: withVersion(number, version) });

      assert.equal(status, 'applied');
      assert.deepEqual(
        programs.map(({ result }) => result),
        ['unchanged', 'unchanged', 'unchanged'].with(number - 1, 'updated'),
      );
      const chain = await assertChain(stage, ALL.with(number - 1, `xdp-mark-${number}@${version}`));
      const state = await stage.kernel();
      assertPublicMaps(state, chain, { iface: stage.bed.iface, direction: 'xdpingress', slot: 'mark_next' });
      const old = version === '1.0' ? '2_0' : '1_0';
      assert.deepEqual(
        state.entries.filter((entry) => entry.includes(`xdp-mark-${number}/${old}`)),
        [],
      );
    }
  });
}

test('l3afd defect 6: a crash is followed by unpinning live links', async () => {
  const before = await stage.kernel();
  const lost = await stage.bed.lost();
  const traffic = await stage.startTraffic(PROBE_PORT, RATE);

  for (let time = 1; time <= 3; time++) {
    await stage.agent.kill('SIGKILL');
    assert.deepEqual(await stage.kernel(), before);
    await stage.agent.start();
    assert.deepEqual(await stage.kernel(), before);
  }

  const packets = (await traffic.stop()) - ((await stage.bed.lost()) - lost);
  const paths = await loadedMap(stage, 'xdpingress', 'xdp-mark-3', 'mark_paths');
  await eventually(
    () => pathsIn(paths),
    (ways) => (ways['1-2-3'] ?? 0) >= packets,
    `${packets} packets should pass the chain`,
  );
  assert.deepEqual(await pathsIn(paths), { '1-2-3': packets });
});

test('l3afd defect 7: a start that fails after attaching leaves the program attached and forgotten', async (t) => {
  // given no program of ours, and a foreign program at another interface, the last one of the command
  await stage.deploy({});
  const [other, foreign] = [await createTestbed(`z${stage.bed.iface}`), new PrivateBpffs()];
  t.after(() => other.close());
  await foreign.mount();
  t.after(() => foreign.unmount());
  const holder = await foreign.load(builtObject('xdp_root'), 'xdp');
  await run('ip', ['link', 'set', 'dev', other.iface, 'xdp', 'pinned', holder.programPin('xdp_root')]);

  // when a deploy attaches at three hooks, and cannot attach at the fourth
  const ack = await stage.send('deploy', [
    ...stage.payload({ xdp_ingress: marks([1]), tc_ingress: marks([1], 'tc'), tc_egress: marks([2], 'tc') }),
    ...stage.payload({ xdp_ingress: marks([2]) }, other.iface),
  ]);

  // then nothing is attached, pinned or loaded, and nothing is desired
  assert.deepEqual([ack.status, ack.code, ack.undone], ['failed', 'HOOK_OCCUPIED', true]);
  assert.equal(await attachedXdp(stage.bed.iface), undefined);
  const state = await stage.kernel();
  assert.deepEqual(state.entries, []);
  assert.deepEqual(await stage.leaked(state), []);
  assert.deepEqual((await stage.fleet.programs(stage.host)).programs, []);
});

test('l3afd defect 8: the first error while unpinning leaks the rest', async (t) => {
  // given a pin that cannot be removed, because something is mounted on it
  const { members } = await assertLinked(stage, ALL);
  const { dir } = members[2]!;
  const stuck = join(stage.bpffs, dir, 'maps', 'mark_id');
  await run('mount', ['--bind', stuck, stuck]);
  const release = () => run('umount', [stuck]);
  t.after(() => (existsSync(stuck) ? release().catch(() => undefined) : undefined));

  // when everything is to be removed
  const ack = await stage.deploy({});

  // then everything else is gone, programs included, and the answer names what is left
  assert.equal(ack.status, 'applied');
  assert.match(ack.message ?? '', /xdp-mark-2/);
  assert.equal(await attachedXdp(stage.bed.iface), undefined);
  const pin = join(dir, 'maps', 'mark_id');
  const { entries } = await stage.kernel();
  assert.ok(entries.includes(pin));
  assert.deepEqual(
    entries.filter((entry) => !`${pin}/`.startsWith(`${entry}/`)),
    [],
  );
  const programs = members.map(({ programId }) => programId);
  assert.deepEqual(existing('prog', programs), []);

  // and when the pin can be removed, the agent removes it by itself
  await release();
  await eventually(
    async () => (await stage.kernel()).entries,
    (left) => left.length === 0,
    'the rest should be cleaned up',
  );
});

test('l3afd defect 9: removing a TC filter hits a foreign one', async (t) => {
  // given foreign filters before and behind the agent's, which attaches by filter too
  const clsact = await Stage.open({ host: 'defect-9', env: { L3AF_TC_MODE: 'clsact' } });
  t.after(() => clsact.close());
  const foreign = new PrivateBpffs();
  await foreign.mount();
  t.after(() => foreign.unmount());
  const { iface } = clsact.bed;
  await run('tc', ['qdisc', 'add', 'dev', iface, 'clsact']);
  const witnesses: LoadedObject[] = [];
  for (const preference of ['1', '60000']) {
    const witness = await foreign.load(builtObject('tc_mark'), 'classifier');
    const place = ['dev', iface, 'ingress', 'protocol', 'all', 'pref', preference];
    await run('tc', [
      'filter',
      'add',
      ...place,
      'bpf',
      'direct-action',
      'object-pinned',
      witness.programPin('tc_mark'),
    ]);
    witnesses.push(witness);
  }
  const counted = () => Promise.all(witnesses.map((witness) => witness.counter('mark_seen')));
  const passed = async (packets: number) => {
    await clsact.receive(10, PROBE_PORT);
    await eventually(counted, ([, second]) => second! >= packets, `${packets} packets should pass both`);
    assert.deepEqual(await counted(), [packets, packets]);
  };
  const filters = async () => (await run('tc', ['filter', 'show', 'dev', iface, 'ingress'])).stdout;
  const before = await filters();
  await passed(10);

  // when our chain is added, changed and removed
  await clsact.deploy({ tc_ingress: marks([1, 2], 'tc') });
  assert.notEqual(await filters(), before);
  await passed(20);
  assert.equal(resultsOf(await clsact.deploy({ tc_ingress: marks([2], 'tc') }))['tc-mark-1'], 'stopped');
  await passed(30);
  await clsact.deploy({});

  // then the foreign filters are unchanged
  assert.equal(await filters(), before);
  await passed(40);
});
