import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { PrivateBpffs } from '../../support/bpftool.js';
import { attachForeign, type TcDirection, tcxOrder } from '../../support/foreign-tcx.js';
import { payloadProgram } from '../../support/packages.js';
import { builtObject } from '../../support/project.js';
import { noteMade } from '../../support/this-run.js';
import { run } from '../../support/tool.js';
import { assertChain, marks, resultsOf } from '../support/chain.js';
import { attachedXdp, bpftool } from '../support/kernel.js';
import { DISCARD_PORT, eventually, Stage } from '../support/stage.js';

/*
 * The agent leaves foreign objects as they are. When somebody has removed an object of its own, that is no error.
 */

let stage: Stage;
const foreign = new PrivateBpffs();
before(async () => {
  // No repair may interfere with the tests.
  stage = await Stage.open({ host: 'neighbours', env: { L3AF_RECONCILE_INTERVAL: '1h' } });
  await foreign.mount();
});
after(async () => {
  await stage.close();
  await foreign.unmount();
});
afterEach(() => stage.deploy({}));

const PROGRAMS = { xdp_ingress: marks([1, 2]), tc_ingress: marks([1], 'tc'), tc_egress: marks([2], 'tc') };

for (const direction of ['ingress', 'egress'] as const satisfies TcDirection[]) {
  test(`foreign TCX programs before and behind ours keep their places through attach, swap and detach: ${direction}`, async (t) => {
    // given a foreign program that exists before ours
    const { iface } = stage.bed;
    const [first, last] = await Promise.all([0, 1].map(() => foreign.load(builtObject('tc_count'), 'classifier')));
    t.after(() => Promise.all([first!.unload(), last!.unload()]));
    const idOf = async (loaded: typeof first) => (await loaded!.showProgram('tc_count')).id;
    const [firstId, lastId] = [await idOf(first), await idOf(last)];
    t.after(attachForeign(first!.programPin('tc_count'), iface, direction));

    // when a chain is attached, then it comes after the foreign program
    const list = `tc_${direction}`;
    await stage.deploy({ [list]: marks([1], 'tc') });
    const root = (await stage.chain(direction))!.members[0]!.programId;
    assert.deepEqual(tcxOrder(iface, direction), [firstId, root]);

    // and when another foreign program is attached behind the chain, then all keep their places through changes of our
    // chain
    t.after(attachForeign(last!.programPin('tc_count'), iface, direction));
    const order = [firstId, root, lastId];
    await stage.deploy({ [list]: marks([2, 1], 'tc') });
    assert.deepEqual(tcxOrder(iface, direction), order);
    await stage.deploy({ [list]: marks([2, 1], 'tc').map((program) => ({ ...program, version: '2.0' })) });
    assert.deepEqual(tcxOrder(iface, direction), order);
    await stage.agent.kill('SIGKILL');
    await stage.agent.start();
    assert.deepEqual(tcxOrder(iface, direction), order);

    // and each packet passes all of them
    const before = await Promise.all([first, last].map((loaded) => loaded!.counter('tc_packets')));
    await assertChain(stage, ['tc-mark-2@2.0', 'tc-mark-1@2.0'], direction);
    const [atFirst, atLast] = await Promise.all([first, last].map((loaded) => loaded!.counter('tc_packets')));
    assert.ok(atFirst! > before[0]!);
    assert.equal(atFirst! - before[0]!, atLast! - before[1]!);

    // and when our chain is removed, then the foreign programs still exist
    await stage.deploy({});
    assert.deepEqual(tcxOrder(iface, direction), [firstId, lastId]);
  });
}

test('foreign pins in the same bpffs survive everything, the end of an agent that detaches included', async (t) => {
  // given foreign pins at all kinds of places, some of them where the agent's own pins would be
  const { iface } = stage.bed;
  const places = ['stranger', 'cilium/globals/table', `${iface}/stranger/1_0/table`, `${iface}/xdp-mark-1/1_0/theirs`];
  const pins = [...places, `tc/globals/${iface}/stranger/1_0/table`, `links/${iface}/stranger`, 'progs/stranger'];
  const paths = pins.map((pin) => join(stage.bpffs, pin));
  for (const path of paths) {
    await mkdir(dirname(path), { recursive: true });
    const shape = ['type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'theirs'];
    await run('bpftool', ['map', 'create', path, ...shape]);
  }
  const emptyFolder = join(stage.bpffs, 'progs', 'empty', 'folder');
  await mkdir(emptyFolder, { recursive: true });
  t.after(async () => {
    for (const path of [...paths, emptyFolder]) await rm(path, { recursive: true });
    const folders = ['cilium', iface, 'tc', 'links', 'progs'].map((folder) => join(stage.bpffs, folder));
    await run('find', [...folders, '-type', 'd', '-empty', '-delete']);
  });
  const ids = () =>
    Promise.all(paths.map(async (path) => (await bpftool<{ id: number }>('map', 'show', 'pinned', path)).id));
  const before = await ids();

  // when chains are added, changed and removed, and agents start and stop
  assert.equal((await stage.deploy(PROGRAMS)).status, 'applied');
  await stage.deploy({ ...PROGRAMS, xdp_ingress: marks([3, 2, 1]) });
  await stage.delete({ xdp_ingress: ['xdp-mark-1'] });
  await stage.restart();
  await stage.deploy(PROGRAMS);
  await stage.agent.stop();
  const detaching = stage.successor(['--detach-on-exit']);
  await detaching.start();
  await detaching.stop();

  // then the agent's objects are gone, and the foreign ones exist
  assert.equal(await attachedXdp(iface), undefined);
  assert.deepEqual(await ids(), before);
  assert.ok(existsSync(emptyFolder));
  await stage.agent.start();
  await stage.deploy({});
  assert.deepEqual(await ids(), before);
});

test('detach of what is gone is no error', async () => {
  // given chains: somebody has detached one, unpinned another, and done both to a third
  await stage.deploy(PROGRAMS);
  const { iface } = stage.bed;
  const linkAt = (direction: string) => {
    const root = direction === 'xdpingress' ? 'xdp-root' : 'tc-root';
    return join(stage.bpffs, 'links', iface, root, 'latest', direction);
  };
  await run('bpftool', ['link', 'detach', 'pinned', linkAt('xdpingress')]);
  await unlink(linkAt('ingress'));
  await run('bpftool', ['link', 'detach', 'pinned', linkAt('egress')]);
  await unlink(linkAt('egress'));

  // when they are to be removed
  const names = (list: readonly { name: string }[]) => list.map(({ name }) => name);
  const ack = await stage.delete({
    xdp_ingress: names(PROGRAMS.xdp_ingress),
    tc_ingress: names(PROGRAMS.tc_ingress),
    tc_egress: names(PROGRAMS.tc_egress),
  });

  // then they are gone, and nothing is left of them
  assert.equal(ack.status, 'applied', ack.message);
  assert.deepEqual([...new Set(Object.values(resultsOf(ack)))], ['stopped']);
  const state = await stage.kernel();
  assert.deepEqual(state.entries, []);
  assert.deepEqual(await stage.leaked(state), []);
});

for (const what of ['network namespace', 'interface'] as const) {
  test(`deleted ${what} cleans up`, async (t) => {
    // given chains at an interface whose peer is in a namespace
    const iface = `${stage.bed.iface}n`;
    const namespace = `l3af-gone-${process.pid}`;
    await run('ip', ['netns', 'add', namespace]);
    t.after(() => run('ip', ['netns', 'delete', namespace]).catch(() => undefined));
    noteMade(iface);
    noteMade(namespace);
    await run('ip', ['link', 'add', iface, 'type', 'veth', 'peer', 'name', 'peer0', 'netns', namespace]);
    const payload = [...stage.payload(PROGRAMS, iface), ...stage.payload({ xdp_ingress: marks([5]) })];
    assert.equal((await stage.send('deploy', payload)).status, 'applied');
    await stage.kernel();
    const other = await stage.chain();

    // when the interface or the namespace is deleted
    if (what === 'interface') await run('ip', ['link', 'delete', iface]);
    else await run('ip', ['netns', 'delete', namespace]);
    await eventually(
      () => stage.fleet.status(stage.host),
      ({ hooks }) => hooks.filter(({ attached }) => !attached).length === 3,
      'the chains of the interface should be told as not attached',
    );

    // then the chains wait for it, other chains are not touched, and a deploy that does not name them removes what is
    // left
    assert.deepEqual(await stage.chain(), other);
    const ack = await stage.deploy({ xdp_ingress: marks([5]) });
    assert.equal(ack.status, 'applied', ack.message);
    const state = await stage.kernel();
    assert.deepEqual(
      state.entries.filter((entry) => entry.includes(iface)),
      [],
    );
    assert.deepEqual(await stage.leaked(state), []);
    assert.deepEqual(await stage.chain(), other);
  });
}

test('foreign filter survives our attach, swap and detach, and sees what our chain has let pass', async (t) => {
  // given foreign filters at clsact, in both directions
  const { iface } = stage.bed;
  const theirs = await foreign.load(builtObject('tc_count'), 'classifier');
  t.after(() => theirs.unload());
  await run('tc', ['qdisc', 'add', 'dev', iface, 'clsact']);
  t.after(() => run('tc', ['qdisc', 'delete', 'dev', iface, 'clsact']));
  const program = ['bpf', 'direct-action', 'object-pinned', theirs.programPin('tc_count')];
  for (const direction of ['ingress', 'egress'])
    await run('tc', ['filter', 'add', 'dev', iface, direction, 'protocol', 'all', 'pref', '1', ...program]);
  const filters = async () =>
    (await Promise.all(['ingress', 'egress'].map((at) => run('tc', ['filter', 'show', 'dev', iface, at])))).map(
      ({ stdout }) => stdout,
    );
  const before = await filters();

  for (const version of ['1.0', '2.0']) {
    const counted = await theirs.counter('tc_packets');
    await stage.deploy({ tc_ingress: [payloadProgram('tc-mark-1', { version })] });
    await stage.receive(20, DISCARD_PORT);
    await eventually(
      () => theirs.counter('tc_packets'),
      (count) => count >= counted + 20,
      'the foreign filter should count the packets',
    );
    assert.deepEqual(await filters(), before);
  }

  await stage.deploy({});
  assert.deepEqual(await filters(), before);
});
