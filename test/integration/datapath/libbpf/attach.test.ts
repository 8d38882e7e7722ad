import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { hookAt } from '../../../../src/domain/observed.js';
import { command, json, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, load, PORT_COUNT, programId, refused, TC_COUNT, XDP_ROOT } from '../../../contract/samples.js';
import { builtObject } from '../../../support/project.js';
import { noteMade } from '../../../support/this-run.js';

/*
 * Hooks that others use, interfaces that are removed, and how XDP and TC attach.
 */

let kernel: KernelFixture;
afterEach(() => kernel.close());

/** Loads a foreign program; `remove` unloads it. */
async function stranger(
  object: string,
  type: 'xdp' | 'classifier',
): Promise<{ pin: string; id: number; remove(): Promise<string> }> {
  const pin = `${kernel.bpffs}/stranger`;
  await command('bpftool', 'prog', 'load', builtObject(object), pin, 'type', type);
  const { id } = await json<{ id: number }>('bpftool', '-j', 'prog', 'show', 'pinned', pin);
  return { pin, id, remove: () => command('rm', pin) };
}

async function attachments(direction: 'xdpingress' | 'ingress' | 'egress') {
  return hookAt(await kernel.datapath.observe(), { iface: kernel.iface, direction }).attachments;
}

/** What `ip` reports for an interface: `prog/xdp` in the driver, `prog/xdpgeneric` in the stack. */
async function xdpOf(): Promise<{ mode: number; prog: { id: number } } | undefined> {
  const [link] = await json<[{ xdp?: { mode: number; prog: { id: number } } }]>(
    'ip',
    '-j',
    'link',
    'show',
    kernel.iface,
  );
  return link.xdp;
}

describe('XDP', () => {
  beforeEach(async () => {
    kernel = await kernelFixture();
  });

  test('over a foreign program is refused with its id and name, and leaves it alone', async () => {
    const theirs = await stranger('xdp_mark', 'xdp');
    await command('ip', 'link', 'set', kernel.iface, 'xdp', 'pinned', theirs.pin);
    const root = await load(kernel, XDP_ROOT, 'xdpingress');

    const attach = kernel.datapath.attach(root.hook, root.program, root.link);
    await refused(attach, 'HOOK_OCCUPIED', kernel.iface, `program ${theirs.id} (xdp_mark)`, 'EBUSY');
    await kernel.datapath.detach(root.hook, root.link);

    assert.equal((await xdpOf())?.prog.id, theirs.id);
    assert.deepEqual(await attachments('xdpingress'), []);

    await command('ip', 'link', 'set', kernel.iface, 'xdp', 'off');
    await theirs.remove();
    await discard(kernel, root);
  });

  test('whose link was detached by hand is observed as detached, and attached again at the same pin', async () => {
    const root = await load(kernel, XDP_ROOT, 'xdpingress');
    await kernel.datapath.attach(root.hook, root.program, root.link);
    await command('bpftool', 'link', 'detach', 'pinned', root.link);

    const [dead] = await attachments('xdpingress');
    assert.deepEqual([dead?.attached, dead?.linkPin], [false, root.link]);

    await kernel.datapath.attach(root.hook, root.program, root.link);
    const [live] = await attachments('xdpingress');
    assert.equal(live?.attached, true);
    assert.equal((await xdpOf())?.prog.id, await programId(kernel, root));

    await kernel.datapath.detach(root.hook, root.link);
    await discard(kernel, root);
  });

  test('on an interface that was created again is observed as detached, and attached again', async () => {
    const root = await load(kernel, XDP_ROOT, 'xdpingress');
    await kernel.datapath.attach(root.hook, root.program, root.link);
    await kernel.testbed.recreate();

    assert.equal((await attachments('xdpingress'))[0]?.attached, false);
    await kernel.datapath.attach(root.hook, root.program, root.link);
    assert.equal((await attachments('xdpingress'))[0]?.attached, true);

    await kernel.datapath.detach(root.hook, root.link);
    await discard(kernel, root);
  });

  test('on a renamed interface is observed as detached, and leaves the interface when it is removed', async () => {
    const root = await load(kernel, XDP_ROOT, 'xdpingress');
    await kernel.datapath.attach(root.hook, root.program, root.link);
    const renamed = `${kernel.iface}r`;
    await command('ip', 'link', 'set', kernel.iface, 'down');
    await command('ip', 'link', 'set', kernel.iface, 'name', renamed);

    assert.equal((await attachments('xdpingress'))[0]?.attached, false);
    await kernel.datapath.detach(root.hook, root.link);

    await command('ip', 'link', 'set', renamed, 'name', kernel.iface);
    assert.equal(await xdpOf(), undefined);
    await discard(kernel, root);
  });

  test('whose link another process has open is detached nevertheless', async () => {
    const root = await load(kernel, XDP_ROOT, 'xdpingress');
    await kernel.datapath.attach(root.hook, root.program, root.link);
    const elsewhere = `${kernel.bpffs}/held`;
    await command('ln', root.link, elsewhere);

    await kernel.datapath.detach(root.hook, root.link);

    assert.equal(await xdpOf(), undefined);
    await command('rm', elsewhere);
    await discard(kernel, root);
  });

  for (const [xdp, mode] of [
    ['native', 1],
    ['generic', 2],
  ] as const) {
    test(`attaches in mode ${xdp} if requested`, async () => {
      await kernel.close();
      kernel = await kernelFixture({ xdp });
      const root = await load(kernel, XDP_ROOT, 'xdpingress');

      await kernel.datapath.attach(root.hook, root.program, root.link);

      assert.equal((await xdpOf())?.mode, mode); // XDP_ATTACHED_DRV and XDP_ATTACHED_SKB
      await kernel.datapath.detach(root.hook, root.link);
      await discard(kernel, root);
    });
  }

  test('in native mode is refused with the remedy if the driver does not support it', async () => {
    await kernel.close();
    kernel = await kernelFixture({ xdp: 'native' });
    const bridge = `${kernel.iface}b`;
    noteMade(bridge);
    await command('ip', 'link', 'add', bridge, 'type', 'bridge');
    const root = await load({ ...kernel, iface: bridge }, XDP_ROOT, 'xdpingress');

    const attach = kernel.datapath.attach(root.hook, root.program, root.link);
    await refused(attach, 'ATTACH_FAILED', bridge, 'auto or generic', 'EOPNOTSUPP').finally(() =>
      command('ip', 'link', 'delete', bridge),
    );

    await discard(kernel, root);
  });
});

describe('TC', () => {
  beforeEach(async () => {
    kernel = await kernelFixture({ tc: 'clsact' });
  });

  const qdiscs = async () => await command('tc', 'qdisc', 'show', 'dev', kernel.iface, 'clsact');
  const filters = async (direction: string) => await command('tc', 'filter', 'show', 'dev', kernel.iface, direction);

  test('uses a TCX link and no qdisc if the kernel supports it', async () => {
    await kernel.close();
    kernel = await kernelFixture({ tc: 'auto' });
    const count = await load(kernel, TC_COUNT, 'egress');

    await kernel.datapath.attach(count.hook, count.program, count.link);

    assert.deepEqual(
      (await attachments('egress')).map(({ kind, attached }) => [kind, attached]),
      [['tcx', true]],
    );
    assert.equal(await qdiscs(), '');
    await kernel.datapath.detach(count.hook, count.link);
    await discard(kernel, count);
  });

  test('by filter removes its own qdisc again', async () => {
    const count = await load(kernel, TC_COUNT, 'ingress');

    await kernel.datapath.attach(count.hook, count.program, count.link);
    const [attachment] = await attachments('ingress');
    assert.deepEqual([attachment?.kind, attachment?.linkPin, attachment?.attached], ['clsact', '', true]);
    assert.match(await qdiscs(), /clsact/);

    await kernel.datapath.detach(count.hook, '');
    assert.equal(await qdiscs(), '');
    await discard(kernel, count);
  });

  test('leaves foreign filters and their qdisc alone', async () => {
    await command('tc', 'qdisc', 'add', 'dev', kernel.iface, 'clsact');
    const theirs = await stranger('tc_mark', 'classifier');
    const place = ['dev', kernel.iface, 'egress', 'protocol', 'all', 'pref', '1'];
    await command('tc', 'filter', 'add', ...place, 'bpf', 'direct-action', 'object-pinned', theirs.pin);
    const before = await filters('egress');
    const count = await load(kernel, TC_COUNT, 'egress');

    await kernel.datapath.attach(count.hook, count.program, count.link);
    assert.notEqual(await filters('egress'), before);
    await kernel.datapath.detach(count.hook, '');

    assert.equal(await filters('egress'), before);
    await theirs.remove();
    await discard(kernel, count);
  });

  test('leaves its own qdisc if it has a foreign filter by now', async () => {
    const theirs = await stranger('tc_mark', 'classifier');
    const count = await load(kernel, TC_COUNT, 'ingress');
    await kernel.datapath.attach(count.hook, count.program, count.link);
    const place = ['dev', kernel.iface, 'egress', 'protocol', 'all', 'pref', '1'];
    await command('tc', 'filter', 'add', ...place, 'bpf', 'direct-action', 'object-pinned', theirs.pin);

    await kernel.datapath.detach(count.hook, '');

    assert.match(await filters('egress'), /tc_mark/);
    await theirs.remove();
    await discard(kernel, count);
  });

  test('refuses a filter of the same handle and priority that is not ours, and leaves it', async () => {
    await command('tc', 'qdisc', 'add', 'dev', kernel.iface, 'clsact');
    const theirs = await stranger('tc_mark', 'classifier');
    const place = ['dev', kernel.iface, 'ingress', 'protocol', 'all', 'pref', '19507', 'handle', '0x4c33'];
    await command('tc', 'filter', 'add', ...place, 'bpf', 'direct-action', 'object-pinned', theirs.pin);
    const before = await filters('ingress');
    const count = await load(kernel, TC_COUNT, 'ingress');

    const attach = kernel.datapath.attach(count.hook, count.program, count.link);
    await refused(attach, 'HOOK_OCCUPIED', kernel.iface, `program ${theirs.id} (tc_mark)`);
    await kernel.datapath.detach(count.hook, '');

    assert.equal(await filters('ingress'), before);
    assert.deepEqual(await attachments('ingress'), []);
    await theirs.remove();
    await discard(kernel, count);
  });

  test('has both directions at once, each with its own filter', async () => {
    const [ingress, egress] = [await load(kernel, TC_COUNT, 'ingress'), await load(kernel, TC_COUNT, 'egress')];
    await kernel.datapath.attach(ingress.hook, ingress.program, ingress.link);
    await kernel.datapath.attach(egress.hook, egress.program, egress.link);

    await kernel.datapath.detach(ingress.hook, '');

    assert.deepEqual(await attachments('ingress'), []);
    assert.equal((await attachments('egress'))[0]?.programId, await programId(kernel, egress));
    await kernel.datapath.detach(egress.hook, '');
    await discard(kernel, ingress, egress);
  });
});

test('an attached program keeps its hook if the swap to another type is refused', async () => {
  kernel = await kernelFixture();
  const [root, tc] = [await load(kernel, XDP_ROOT, 'xdpingress'), await load(kernel, TC_COUNT, 'ingress')];
  const count = await load(kernel, PORT_COUNT, 'xdpingress');
  await kernel.datapath.attach(root.hook, root.program, root.link);

  const swap = { program: tc.program, link: count.link };
  await refused(
    kernel.datapath.retarget(root.hook, { program: root.program, link: root.link }, swap),
    'ATTACH_FAILED',
    'EINVAL',
  );

  const [live] = await attachments('xdpingress');
  assert.deepEqual([live?.linkPin, live?.programId], [root.link, await programId(kernel, root)]);
  await kernel.datapath.detach(root.hook, root.link);
  await discard(kernel, root, tc, count);
});
