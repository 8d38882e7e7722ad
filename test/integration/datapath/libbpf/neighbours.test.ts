import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { LibbpfDatapath } from '../../../../src/datapath/libbpf/datapath.js';
import { encodeMapArgs } from '../../../../src/domain/mapvalue.js';
import { loader } from '../../../support/loader.js';
import { mountBpffs } from '../../../support/testbed.js';
import { run } from '../../../support/tool.js';

test('rolling back a prefix that was added within another leaves only the other', async (t) => {
  const bpffs = await mountBpffs();
  t.after(() => bpffs.unmount());
  const pin = `${bpffs.path}/trie`;
  const shape = ['type', 'lpm_trie', 'key', '8', 'value', '4', 'entries', '8', 'flags', '1', 'name', 'trie'];
  await run('bpftool', ['map', 'create', pin, ...shape]);
  const datapath = new LibbpfDatapath({ bpffs: bpffs.path, loader });
  const entry = (prefix: string, value: number) => {
    const map = { name: 'trie', type: 11, keySize: 8, valueSize: 4, maxEntries: 8 };
    return encodeMapArgs(map, { name: 'trie', args: [{ key: prefix, value }] }, 'map_args.0');
  };
  await datapath.writeMap(pin, { set: entry('10.0.0.0/8', 1), remove: [] });

  // A lookup of the new prefix answers for the one that covers it.
  const change = { set: entry('10.1.0.0/16', 2), remove: [] };
  const inverse = await datapath.inverseOf(pin, change);
  await datapath.writeMap(pin, change);
  await datapath.writeMap(pin, inverse);

  const { stdout } = await run('bpftool', ['--json', 'map', 'dump', 'pinned', pin]);
  assert.equal((JSON.parse(stdout) as unknown[]).length, 1);
  // Keys that differ only behind the prefix are the same key.
  assert.deepEqual(entry('10.1.2.3/8', 1), entry('10.0.0.0/8', 1));
});

test("foreign entries in the bpffs, at any depth, do not hide the agent's own", async (t) => {
  const bpffs = await mountBpffs();
  t.after(() => bpffs.unmount());
  mkdirSync(`${bpffs.path}/cilium/devices/eth0/links`, { recursive: true });
  mkdirSync(`${bpffs.path}/tc/globals/a/b/c/d`, { recursive: true });

  const { hooks, publicMaps } = await new LibbpfDatapath({ bpffs: bpffs.path, loader }).observe();

  assert.deepEqual([hooks.length, publicMaps.size], [0, 0]);
});
