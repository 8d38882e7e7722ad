import assert from 'node:assert/strict';
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { hookAt, liveAttachment } from '../../../../src/domain/observed.js';
import { command, kernelFixture } from '../../../contract/kernel.js';
import { discard, load, XDP_ROOT } from '../../../contract/samples.js';

test('a link of another kind among the pins of links is reported, and is not taken for an attachment', async () => {
  const kernel = await kernelFixture();
  const { datapath, bpffs, iface } = kernel;
  const root = await load(kernel, XDP_ROOT, 'xdpingress');
  await datapath.attach(root.hook, root.program, root.link);
  const { linkId } = liveAttachment(hookAt(await datapath.observe(), root.hook))!;

  // given an XDP link where TCX links are pinned, and one whose place says no attach point
  const foreign = ['ingress', 'elsewhere'].map((place) => `${bpffs}/links/${iface}/other/1_0/${place}`);
  await mkdir(dirname(foreign[0]!), { recursive: true });
  for (const path of foreign) await command('bpftool', 'link', 'pin', 'id', String(linkId), path);

  const observed = await datapath.observe();
  assert.deepEqual(new Set(observed.foreignLinks), new Set(foreign));
  assert.deepEqual(hookAt(observed, { iface, direction: 'ingress' }).attachments, []);
  assert.equal(liveAttachment(hookAt(observed, root.hook))?.linkId, linkId);

  for (const path of foreign) await rm(path);
  await datapath.detach(root.hook, root.link);
  await discard(kernel, root);
  await rm(`${bpffs}/links`, { recursive: true, force: true });
  await kernel.close();
});
