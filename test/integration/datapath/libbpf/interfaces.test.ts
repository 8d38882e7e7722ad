import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { openPin } from '../../../../src/datapath/libbpf/abi/fd.js';
import { linkInfo } from '../../../../src/datapath/libbpf/abi/info.js';
import { interfaceIndex } from '../../../../src/datapath/libbpf/abi/interfaces.js';
import { xdpPrograms } from '../../../../src/datapath/libbpf/attach/xdp-query.js';
import type { LibbpfDatapathOptions } from '../../../../src/datapath/libbpf/datapath.js';
import { hookAt } from '../../../../src/domain/observed.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, type Loaded, load, programId, refused, rootSample, XDP_ROOT } from '../../../contract/samples.js';
import { builtObject } from '../../../support/project.js';
import { noteMade } from '../../../support/this-run.js';

/*
 * What becomes of a chain when somebody moves, renames, swaps or stacks interfaces. Whether it is attached is what the
 * hook says, never what the name, the index or the link say alone.
 */

type Attached = 'xdpingress' | 'ingress' | 'egress';
const AT: readonly { readonly at: Attached; readonly options: Partial<LibbpfDatapathOptions> }[] = [
  { at: 'xdpingress', options: {} },
  { at: 'ingress', options: { tc: 'tcx' } },
  { at: 'egress', options: { tc: 'tcx' } },
  { at: 'ingress', options: { tc: 'clsact' } },
];

let kernel: KernelFixture;
const loadedHere: Loaded[] = [];
const linksHere: string[] = [];

async function open(options: Partial<LibbpfDatapathOptions> = {}): Promise<void> {
  kernel = await kernelFixture(options);
}

afterEach(async () => {
  for (const loaded of loadedHere.splice(0)) {
    await kernel.datapath.detach(loaded.hook, loaded.link);
    await discard(kernel, loaded);
  }
  for (const iface of linksHere.splice(0)) await command('ip', 'link', 'delete', iface).catch(() => undefined);
  await kernel.close();
});

async function root(at: Attached, iface = kernel.iface): Promise<Loaded> {
  const loaded = await load({ ...kernel, iface }, rootSample(at), at);
  loadedHere.push(loaded);
  return loaded;
}

async function attach(loaded: Loaded): Promise<void> {
  await kernel.datapath.attach(loaded.hook, loaded.program, loaded.link);
}

function linkIdAt(pin: string): number {
  using link = openPin('link', pin);
  return linkInfo(link.number).id;
}

async function isAttached({ hook }: Loaded): Promise<boolean> {
  const { attachments } = hookAt(await kernel.datapath.observe(), hook);
  return attachments.some(({ attached }) => attached);
}

/** Makes a pair of interfaces that the test removes again. */
async function makePair(iface: string, index?: number): Promise<void> {
  linksHere.push(iface);
  noteMade(iface);
  const at = index === undefined ? [] : ['index', String(index)];
  await command('ip', 'link', 'add', iface, ...at, 'type', 'veth', 'peer', 'name', `${iface}p`);
  await command('ip', 'link', 'set', iface, 'up');
}

async function rename(from: string, to: string): Promise<void> {
  await command('ip', 'link', 'set', from, 'down');
  await command('ip', 'link', 'set', from, 'name', to);
  await command('ip', 'link', 'set', to, 'up');
}

for (const { at, options } of AT) {
  describe(`a chain at ${at}${options.tc === undefined ? '' : ` by ${options.tc}`}`, () => {
    beforeEach(() => open(options));

    it('is not attached when its interface is in another namespace, though a new one has its name and index', async () => {
      const chain = await root(at);
      await attach(chain);
      assert.equal(await isAttached(chain), true);
      const index = interfaceIndex(kernel.iface);

      await command('ip', 'link', 'set', kernel.iface, 'netns', kernel.testbed.netns.slice('/run/netns/'.length));
      assert.equal(await isAttached(chain), false);
      await makePair(kernel.iface, index);
      assert.equal(await isAttached(chain), false);

      await attach(chain);
      assert.equal(await isAttached(chain), true);
    });

    it('is attached to a renamed interface by its new name', async () => {
      const old = await root(at);
      await attach(old);
      const renamed = `${kernel.iface}n`;
      await rename(kernel.iface, renamed);
      linksHere.push(renamed);
      noteMade(renamed);
      assert.equal(await isAttached(old), false);

      const before = at === 'xdpingress' ? linkIdAt(old.link) : undefined;
      const chain = await root(at, renamed);
      await attach(chain);
      // At XDP it is the same link, so that no packet has passed in between. At TC the new one came before the old went.
      if (before !== undefined) assert.equal(linkIdAt(chain.link), before);
      assert.equal(await isAttached(chain), true);
      // Packets do not pass the old chain as well.
      assert.deepEqual(hookAt(await kernel.datapath.observe(), chain.hook).foreign ?? [], []);
      assert.equal(existsSync(old.link), false);
      await kernel.datapath.detach(old.hook, old.link);
      assert.equal(await isAttached(chain), true);
    });

    it('and another one are attached again after their interfaces have swapped names', async () => {
      const [a, b] = [kernel.iface, `${kernel.iface}b`];
      await makePair(b);
      const [chainOfA, chainOfB] = [await root(at, a), await root(at, b)];
      await attach(chainOfA);
      await attach(chainOfB);

      await rename(a, `${a}x`);
      await rename(b, a);
      await rename(`${a}x`, b);
      if (options.tc !== 'clsact') {
        assert.deepEqual([await isAttached(chainOfA), await isAttached(chainOfB)], [false, false]);
      }

      await attach(chainOfA);
      await attach(chainOfB);
      const hooks = [chainOfA, chainOfB].map(async (chain) => {
        const { attachments } = hookAt(await kernel.datapath.observe(), chain.hook);
        const attached = attachments.filter((attachment) => attachment.attached).map((found) => found.programId);
        assert.deepEqual(attached, [await programId(kernel, chain)]);
      });
      await Promise.all(hooks);
    });
  });
}

describe('XDP at a port and at its bridge', () => {
  let bridge: string;
  let port: string;
  beforeEach(async () => {
    await open();
    [bridge, port] = [`${kernel.iface}br`, kernel.iface];
    linksHere.push(bridge);
    noteMade(bridge);
    await command('ip', 'link', 'add', bridge, 'type', 'bridge');
    await command('ip', 'link', 'set', bridge, 'up');
    await command('ip', 'link', 'set', port, 'master', bridge);
  });

  for (const order of ['the port first', 'the bridge first']) {
    it(`is attached to both, ${order}`, async () => {
      const [below, above] = [await root('xdpingress', port), await root('xdpingress', bridge)];
      for (const chain of order === 'the port first' ? [below, above] : [above, below]) await attach(chain);
      assert.deepEqual([await isAttached(below), await isAttached(above)], [true, true]);
    });
  }

  it('is attached again to a port that was made again', async () => {
    const [below, above] = [await root('xdpingress', port), await root('xdpingress', bridge)];
    await attach(below);
    await attach(above);
    await kernel.testbed.recreate();
    await command('ip', 'link', 'set', port, 'master', bridge);
    assert.deepEqual([await isAttached(below), await isAttached(above)], [false, true]);

    const notes: string[] = [];
    await kernel.datapath.attach(below.hook, below.program, below.link, null, (note) => notes.push(note));
    assert.deepEqual([await isAttached(below), await isAttached(above)], [true, true]);
    assert.match(
      notes.join(),
      new RegExp(`is below ${bridge}, whose program was taken off and put back: packets passed`),
    );
  });

  it('is refused at the port with the true reason if the program at the bridge is not ours', async () => {
    const pin = `${kernel.bpffs}/stranger`;
    await command('bpftool', 'prog', 'load', builtObject(XDP_ROOT.object), pin, 'type', 'xdp');
    await command('ip', 'link', 'set', bridge, 'xdpgeneric', 'pinned', pin);
    await command('rm', pin);
    const below = await root('xdpingress', port);
    await refused(
      kernel.datapath.attach(below.hook, below.program, below.link),
      'HOOK_OCCUPIED',
      new RegExp(`^${bridge}, the device above ${port}, has XDP program \\d+, which is not ours`),
    );
    await command('ip', 'link', 'set', bridge, 'xdpgeneric', 'off');
    await attach(below);
    assert.equal(await isAttached(below), true);
  });
});

describe('a driver that refuses XDP', () => {
  /** More than a page holds: veth takes no program without fragments then. */
  async function withLargeFrames(): Promise<void> {
    await command('ip', 'link', 'set', kernel.iface, 'mtu', '9000');
    await command('nsenter', `--net=${kernel.testbed.netns}`, 'ip', 'link', 'set', kernel.testbed.peer, 'mtu', '9000');
  }

  it('leaves the chain to the network stack in the mode auto', async () => {
    await open({ xdp: 'auto' });
    await withLargeFrames();
    const chain = await root('xdpingress');
    const notes: string[] = [];
    await kernel.datapath.attach(chain.hook, chain.program, chain.link, null, (note) => notes.push(note));
    assert.match(
      notes.join(),
      /^\S+\/xdpingress runs in the network stack \(generic\).*: its driver refuses the program \(.*too large.*\)$/,
    );
    assert.deepEqual([...xdpPrograms(interfaceIndex(kernel.iface)).keys()], ['generic']);
    const [attachment] = hookAt(await kernel.datapath.observe(), chain.hook).attachments;
    assert.equal(attachment?.mode, 'generic');
  });

  it('is quoted in the mode native', async () => {
    await open({ xdp: 'native' });
    await withLargeFrames();
    const chain = await root('xdpingress');
    const refusal = await refused(
      kernel.datapath.attach(chain.hook, chain.program, chain.link),
      'ATTACH_FAILED',
      'set xdp_mode to auto or generic',
    );
    assert.match(refusal.message, /: Peer MTU is too large to set XDP|too large/);
    assert.equal(xdpPrograms(interfaceIndex(kernel.iface)).size, 0);
  });
});
