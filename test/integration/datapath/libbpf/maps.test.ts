import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { command, json, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { discard, load, refused, u64, XDP_ROOT } from '../../../contract/samples.js';

/*
 * Map types that the programs of native/bpf do not have, created with bpftool.
 */

let kernel: KernelFixture;
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

async function makeMap(
  type: string,
  key: number,
  value: number,
  entries: number,
  ...more: string[]
): Promise<{ pin: string; remove(): Promise<string> }> {
  const pin = `${kernel.bpffs}/map_${type}`;
  const sizes = ['key', String(key), 'value', String(value), 'entries', String(entries)];
  await command('bpftool', 'map', 'create', pin, 'type', type, ...sizes, 'name', 'sample', ...more);
  return { pin, remove: () => command('rm', pin) };
}

const KEYS = [1, 2, 3, 4].map((n) => Buffer.from([n, 0, 0, 0]));
const [A = '', B = '', C = ''] = KEYS.map((key) => key.toString('hex'));

/** First byte under each of the keys 1 to 4. */
async function firstBytes(pin: string): Promise<(number | undefined)[]> {
  return Promise.all(KEYS.map(async (key) => (await kernel.datapath.readMap(pin, key))?.[0]));
}

describe('a per-CPU map', () => {
  for (const type of ['percpu_hash', 'percpu_array', 'lru_percpu_hash']) {
    test(`of type ${type} gets a value for all CPUs, and shows one per CPU`, async () => {
      const map = await makeMap(type, 4, 12, 8);
      const value = '0102030405060708090a0b0c';

      const change = { set: [{ key: A, value }], remove: [] };
      const inverse = await kernel.datapath.inverseOf(map.pin, change);
      await kernel.datapath.writeMap(map.pin, change);

      const possible =
        (await json<{ values: unknown[] }[]>('bpftool', '-j', 'map', 'dump', 'pinned', map.pin))[0]?.values.length ?? 0;
      const read = Buffer.from((await kernel.datapath.readMap(map.pin, KEYS[0]!)) ?? []).toString('hex');
      assert.equal(read, `${value}00000000`.repeat(possible));
      await kernel.datapath.writeMap(map.pin, inverse);
      const after = await kernel.datapath.readMap(map.pin, KEYS[0]!);
      assert.equal(after?.[0] ?? 0, 0);
      await map.remove();
    });
  }

  test('gets back the value of each CPU', async () => {
    const map = await makeMap('percpu_array', 4, 8, 4);
    const before = Buffer.from((await kernel.datapath.readMap(map.pin, KEYS[0]!)) ?? []);
    for (let at = 0; at < before.length; at += 8) before.writeUInt32LE(at + 1, at);
    await kernel.datapath.writeMap(map.pin, { set: [{ key: A, value: before.toString('hex') }], remove: [] });

    const change = { set: [{ key: A, value: u64(99) }], remove: [] };
    const inverse = await kernel.datapath.inverseOf(map.pin, change);
    await kernel.datapath.writeMap(map.pin, change);
    await kernel.datapath.writeMap(map.pin, inverse);

    assert.deepEqual(Buffer.from((await kernel.datapath.readMap(map.pin, KEYS[0]!)) ?? []), before);
    await map.remove();
  });
});

test('an address finds the prefix that covers it', async () => {
  const map = await makeMap('lpm_trie', 8, 1, 8, 'flags', '1');
  await kernel.datapath.writeMap(map.pin, { set: [{ key: '100000000a010000', value: '07' }], remove: [] });

  const at = (address: string) => kernel.datapath.readMap(map.pin, Buffer.from(`20000000${address}`, 'hex'));

  assert.equal((await at('0a01ffff'))?.[0], 7);
  assert.equal(await at('0a020000'), undefined);
  await map.remove();
});

describe('a change that fails', () => {
  test('leaves a map that is too full as it was', async () => {
    const map = await makeMap('hash', 4, 1, 2);
    await kernel.datapath.writeMap(map.pin, { set: [{ key: A, value: '01' }], remove: [] });

    const set = [A, B, C].map((key) => ({ key, value: '09' }));
    const full = kernel.datapath.writeMap(map.pin, { set, remove: [] });
    await refused(full, 'MAP_VALUE_INVALID', 'map_hash', '2 entries');

    assert.deepEqual(await firstBytes(map.pin), [1, undefined, undefined, undefined]);
    await map.remove();
  });

  test('removes nothing from an array, and changes nothing of it', async () => {
    const map = await makeMap('array', 4, 1, 4);
    const change = { set: [{ key: A, value: '05' }], remove: [B] };

    await refused(kernel.datapath.writeMap(map.pin, change), 'MAP_VALUE_INVALID', 'map_array', 'cannot be removed');

    assert.deepEqual(await firstBytes(map.pin), [0, 0, 0, undefined]);
    await map.remove();
  });

  test('has keys or values of another size', async () => {
    const map = await makeMap('hash', 4, 2, 4);
    const write = (key: string, value: string) =>
      kernel.datapath.writeMap(map.pin, { set: [{ key, value }], remove: [] });

    await refused(write('0102', '0102'), 'MAP_VALUE_INVALID', 'key of map_hash has 4 bytes, got 2');
    await refused(write(A, '010203'), 'MAP_VALUE_INVALID', 'value of map_hash has 2 bytes, got 3');
    await refused(kernel.datapath.readMap(map.pin, Buffer.alloc(2)), 'MAP_VALUE_INVALID', 'has 4 bytes, got 2');
    await map.remove();
  });

  test('may be for a map that is read-only for user space', async () => {
    const map = await makeMap('array', 4, 1, 1);
    await command('bpftool', 'map', 'freeze', 'pinned', map.pin);

    const write = kernel.datapath.writeMap(map.pin, { set: [{ key: '00000000', value: '05' }], remove: [] });
    await refused(write, 'MAP_VALUE_INVALID', 'read-only');
    await map.remove();
  });

  test('may be for a slot', async () => {
    const root = await load(kernel, XDP_ROOT, 'xdpingress');

    const write = kernel.datapath.writeMap(root.slot, { set: [{ key: '00000000', value: '00000000' }], remove: [] });
    await refused(write, 'MAP_VALUE_INVALID', 'map type 3');

    await discard(kernel, root);
  });
});
