import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { XdpMode } from '../../../../src/datapath/datapath.js';
import { interfaceIndex } from '../../../../src/datapath/libbpf/abi/interfaces.js';
import { disableLro, OFFLOAD, switchOff } from '../../../../src/datapath/libbpf/attach/lro.js';
import { xdpPrograms } from '../../../../src/datapath/libbpf/attach/xdp-query.js';
import { hookAt, type XdpRunMode } from '../../../../src/domain/observed.js';
import { AgentError } from '../../../../src/errors.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, type Loaded, load, XDP_ROOT } from '../../../contract/samples.js';
import { noteMade } from '../../../support/this-run.js';

/*
 * Where the kernel really runs an XDP chain, and the offload that must be off for that.
 */

let kernel: KernelFixture;
afterEach(() => kernel.close());

async function modesAt(iface: string): Promise<(XdpRunMode | undefined)[]> {
  const { attachments } = hookAt(await kernel.datapath.observe(), { iface, direction: 'xdpingress' });
  return attachments.map(({ mode }) => mode);
}

async function attach(iface: string, tell: (note: string) => void): Promise<Loaded> {
  const root = await load({ ...kernel, iface }, XDP_ROOT, 'xdpingress');
  await kernel.datapath.attach(root.hook, root.program, root.link, null, tell);
  return root;
}

const CASES: readonly { asked: XdpMode; kind: 'veth' | 'bridge'; runs: XdpRunMode; told?: RegExp }[] = [
  { asked: 'auto', kind: 'veth', runs: 'native' },
  { asked: 'native', kind: 'veth', runs: 'native' },
  { asked: 'generic', kind: 'veth', runs: 'generic' },
  // A bridge has no driver support for XDP.
  { asked: 'auto', kind: 'bridge', runs: 'generic', told: /network stack \(generic\).*: its driver has no XDP$/ },
  { asked: 'generic', kind: 'bridge', runs: 'generic' },
];
for (const { asked, kind, runs, told = /^$/ } of CASES) {
  test(`XDP that is attached in mode ${asked} to a ${kind} is observed in mode ${runs}`, async (t) => {
    kernel = await kernelFixture({ xdp: asked });
    const iface = kind === 'veth' ? kernel.iface : `${kernel.iface}b`;
    if (kind === 'bridge') {
      noteMade(iface);
      await command('ip', 'link', 'add', iface, 'type', 'bridge');
      t.after(() => command('ip', 'link', 'delete', iface));
    }

    const notes: string[] = [];
    const root = await attach(iface, (note) => notes.push(note));
    assert.match(notes.join(), told);
    assert.deepEqual(await modesAt(iface), [runs]);

    await command('bpftool', 'link', 'detach', 'pinned', root.link);
    assert.deepEqual(await modesAt(iface), [undefined]);
    await kernel.datapath.detach(root.hook, root.link);
    await discard(kernel, root);
  });
}

test('an interface that was removed has no XDP programs', async () => {
  kernel = await kernelFixture();
  const index = interfaceIndex(kernel.iface);
  await kernel.testbed.recreate();

  assert.equal(xdpPrograms(index).size, 0);
});

test('an offload is switched off if it is on, and interfaces without it are left alone', async () => {
  // given that no interface of this kind has LRO, but receive VLAN offload, which is a bit of the same flags
  kernel = await kernelFixture();
  const offload = async () => /rx-vlan-offload: (\w+)/.exec(await command('ethtool', '-k', kernel.iface))?.[1];
  assert.equal(await offload(), 'on');

  disableLro(kernel.iface);
  assert.equal(await offload(), 'on', 'nothing else is switched off');
  switchOff(kernel.iface, OFFLOAD.rxVlan, 'receive VLAN offload');
  assert.equal(await offload(), 'off');
  switchOff(kernel.iface, OFFLOAD.rxVlan, 'receive VLAN offload');
  assert.equal(await offload(), 'off');

  assert.throws(
    () => disableLro('l3none0'),
    (error) => error instanceof AgentError && error.code === 'INTERFACE_NOT_FOUND' && /l3none0/.test(error.message),
  );
});
