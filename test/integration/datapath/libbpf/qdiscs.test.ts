import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { hookAt } from '../../../../src/domain/observed.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, type Loaded, load, refused, type Sample } from '../../../contract/samples.js';
import { builtObject } from '../../../support/project.js';

/*
 * TC without TCX on hosts that have other qdiscs than clsact: an ingress qdisc in the place of clsact, and htb at the
 * root.
 */

/** Counts UDP to the discard port, and thus no replies to it. */
const TC_MARK: Sample = { object: 'tc_mark', entryFunction: 'tc_mark', slotMap: 'mark_next' };
const DISCARD_PORT = 9;

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture({ tc: 'clsact' });
});
afterEach(() => kernel.close());

const tc = (...args: string[]) => command('tc', ...args);
const qdisc = (...args: string[]) => tc('qdisc', args[0]!, 'dev', kernel.iface, ...args.slice(1));

async function addHtb(): Promise<void> {
  await qdisc('add', 'root', 'handle', '1:', 'htb', 'default', '10');
  await tc('class', 'add', 'dev', kernel.iface, 'parent', '1:', 'classid', '1:10', 'htb', 'rate', '1gbit');
}

/**
 * Everything that tc shows of the interface: its qdiscs, and the filters of both directions, without their counters.
 */
async function setup(): Promise<string> {
  const filters = [['ingress'], ['parent', '1:']].map((where) => tc('filter', 'show', 'dev', kernel.iface, ...where));
  return [await qdisc('show'), ...(await Promise.all(filters))].join('--\n');
}

/** Attaches a program in each direction. */
async function attachBoth(): Promise<{ ingress: Loaded; egress: Loaded }> {
  const [ingress, egress] = [await load(kernel, TC_MARK, 'ingress'), await load(kernel, TC_MARK, 'egress')];
  for (const { hook, program, link } of [ingress, egress]) await kernel.datapath.attach(hook, program, link);
  return { ingress, egress };
}

async function detachBoth(loaded: { ingress: Loaded; egress: Loaded }): Promise<void> {
  for (const { hook } of [loaded.ingress, loaded.egress]) await kernel.datapath.detach(hook, '');
  await discard(kernel, loaded.ingress, loaded.egress);
}

/** Sends packets both ways and checks that each is counted only by the program of its direction. */
async function assertCounts(loaded: { ingress: Loaded; egress: Loaded }, received: number, sent: number) {
  await kernel.receive(received, DISCARD_PORT);
  await kernel.send(sent, DISCARD_PORT);
  await kernel.counted(loaded.ingress.map('mark_packets'), received);
  await kernel.counted(loaded.egress.map('mark_packets'), sent);
}

async function attachedAt(direction: 'ingress' | 'egress') {
  const { attachments } = hookAt(await kernel.datapath.observe(), { iface: kernel.iface, direction });
  return attachments.map(({ kind, attached }) => [kind, attached]);
}

describe('TC on an interface with an ingress qdisc and htb', () => {
  test('attaches at the ingress qdisc and at the root, beside the existing filters, and leaves them alone', async () => {
    // given foreign filters in both places
    await qdisc('add', 'ingress');
    await addHtb();
    const theirs = `${kernel.bpffs}/stranger`;
    await command('bpftool', 'prog', 'load', builtObject('tc_count'), theirs, 'type', 'classifier');
    const direct = ['bpf', 'direct-action', 'object-pinned', theirs];
    await tc('filter', 'add', 'dev', kernel.iface, 'ingress', 'protocol', 'all', 'pref', '1', ...direct);
    const classify = ['u32', 'match', 'ip', 'dport', '7', '0xffff', 'flowid', '1:10'];
    await tc('filter', 'add', 'dev', kernel.iface, 'parent', '1:', 'protocol', 'ip', 'pref', '1', ...classify);
    const before = await setup();

    // when programs are attached in both directions
    const counters = await attachBoth();

    // then each program counts the packets of its own direction
    assert.deepEqual(await attachedAt('ingress'), [['clsact', true]]);
    assert.deepEqual(await attachedAt('egress'), [['clsact', true]]);
    await assertCounts(counters, 30, 20);

    // and after their removal, everything else is as it was
    await detachBoth(counters);
    assert.deepEqual([await attachedAt('ingress'), await attachedAt('egress')], [[], []]);
    assert.equal(await setup(), before);
    await command('rm', theirs);
  });

  test('swaps its program in place', async () => {
    await qdisc('add', 'ingress');
    await addHtb();
    const [first, second] = [await load(kernel, TC_MARK, 'egress'), await load(kernel, TC_MARK, 'egress')];
    await kernel.datapath.attach(first.hook, first.program, first.link);

    const to = { program: second.program, link: second.link };
    await kernel.datapath.retarget(first.hook, { program: first.program, link: '' }, to);

    await kernel.send(10, DISCARD_PORT);
    await kernel.counted(second.map('mark_packets'), 10);
    await kernel.counted(first.map('mark_packets'), 0);
    await kernel.datapath.detach(first.hook, '');
    await discard(kernel, first, second);
  });

  test('is refused at egress if there is no htb, and is not attached at ingress instead', async () => {
    await qdisc('add', 'ingress');
    const before = await setup();
    const count = await load(kernel, TC_MARK, 'egress');

    const attach = kernel.datapath.attach(count.hook, count.program, count.link);
    await refused(attach, 'ATTACH_FAILED', kernel.iface, 'ingress qdisc', 'clsact');

    assert.equal(await setup(), before);
    await discard(kernel, count);
  });

  test('finds its filter after the qdiscs have changed', async () => {
    // given a program at the root, and a clsact that has since replaced the ingress qdisc
    await qdisc('add', 'ingress');
    await addHtb();
    const count = await load(kernel, TC_MARK, 'egress');
    await kernel.datapath.attach(count.hook, count.program, count.link);
    await qdisc('del', 'ingress');
    await qdisc('add', 'clsact');

    // when it is attached again
    await kernel.datapath.attach(count.hook, count.program, count.link);

    // then it is still attached once, and can be detached
    await kernel.send(10, DISCARD_PORT);
    await kernel.counted(count.map('mark_packets'), 10);
    await kernel.datapath.detach(count.hook, '');
    assert.doesNotMatch(await setup(), /tc_mark/);
    assert.match(await qdisc('show'), /clsact.*\n.*htb|htb.*\n.*clsact/);
    await discard(kernel, count);
  });
});

test('TC on an interface with htb alone creates its own clsact, and removes only that', async () => {
  await addHtb();
  const before = await setup();

  const counters = await attachBoth();

  assert.match(await qdisc('show'), /clsact/);
  await assertCounts(counters, 10, 10);
  await detachBoth(counters);
  assert.equal(await setup(), before);
});
