import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { LoadRequest } from '../../../../src/datapath/datapath.js';
import { LibbpfDatapath } from '../../../../src/datapath/libbpf/datapath.js';
import { MemoryDatapath } from '../../../../src/datapath/memory/datapath.js';
import { loadDir, mapPin } from '../../../../src/domain/pins.js';
import { type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import { assertEmpty, refused } from '../../../contract/samples.js';
import { loader } from '../../../support/loader.js';
import { run } from '../../../support/tool.js';

/*
 * Maps that an object declares and the kernel does not create. The kernel gives an errno; the error says what is declared
 * and what the kernel takes.
 */

let kernel: KernelFixture;
let folder: string;
before(async () => {
  kernel = await kernelFixture();
  folder = await mkdtemp(join(tmpdir(), 'l3af-refused-maps-'));
});
after(async () => {
  await kernel.close();
  await rm(folder, { recursive: true });
});

/** What is declared of a map, besides its type and what its program does with it; and words of the error. */
const REFUSED: readonly (readonly [string, string, string, ...string[]])[] = [
  ['HASH', '__type(key, __u32); __type(value, __u64);', '', 'max_entries is 0', 'declared as HASH, keys of 4 bytes'],
  [
    'LPM_TRIE',
    '__uint(max_entries, 16); __uint(key_size, 8); __uint(value_size, 4);',
    '',
    'BPF_F_NO_PREALLOC',
    'no flags',
  ],
  ['ARRAY', '__uint(max_entries, 16); __uint(key_size, 8); __uint(value_size, 4);', '', 'numbers of 4 bytes, not of 8'],
  ['PERCPU_ARRAY', '__uint(max_entries, 16); __uint(key_size, 2); __uint(value_size, 4);', '', 'not of 2'],
  [
    'ARRAY',
    '__uint(max_entries, 1); __uint(map_flags, 1); __uint(key_size, 4); __uint(value_size, 4);',
    '',
    'does not take the flag',
  ],
  [
    'QUEUE',
    '__uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4);',
    'peek',
    'a map of type QUEUE has no keys',
  ],
  [
    'CPUMAP',
    '__uint(max_entries, 100000); __uint(key_size, 4); __uint(value_size, 4);',
    'redirect',
    'as the kernel supports CPUs',
  ],
  [
    'DEVMAP',
    '__uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 16);',
    'redirect',
    'has 4 bytes, or 8 with a program',
  ],
  ['HASH', '__uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 0);', '', 'a hash needs keys and values'],
  [
    'ARRAY',
    '__uint(max_entries, 1000000000); __uint(key_size, 4); __uint(value_size, 4096);',
    '',
    'it is too large',
    'MiB',
  ],
  [
    'HASH',
    '__uint(max_entries, 4); __uint(map_flags, 24); __uint(key_size, 4); __uint(value_size, 4);',
    '',
    'exclude each other',
    'BPF_F_RDONLY | BPF_F_WRONLY',
  ],
];

const USE: Readonly<Record<string, string>> = {
  '': 'bpf_map_lookup_elem(&subject, key);',
  first: 'int first = 0; bpf_map_lookup_elem(&subject, &first);',
  query: 'bpf_ringbuf_query(&subject, 0);',
  peek: 'bpf_map_peek_elem(&subject, key);',
  redirect: 'if (ctx->rx_queue_index == 99) return bpf_redirect_map(&subject, 0, 0);',
};

async function compiled(type: string, declaration: string, use: string): Promise<string> {
  const [source, object] = [join(folder, 'refused.bpf.c'), join(folder, 'refused.bpf.o')];
  const text = `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
struct { __uint(type, BPF_MAP_TYPE_${type}); ${declaration} } subject SEC(".maps");
SEC("xdp") int entry(struct xdp_md *ctx) { void *key = ctx; (void)key; ${USE[use]} return XDP_PASS; }
`;
  await writeFile(source, text);
  const include = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  const flags = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-fno-stack-protector', '-idirafter', include];
  await run('clang', [...flags, '-c', source, '-o', object]);
  return object;
}

for (const [type, declaration, use, ...words] of REFUSED) {
  test(`${type} with ${declaration.replaceAll(/__|[();]/g, ' ')} is refused in words`, async () => {
    const objectPath = await compiled(type, declaration, use);
    const loading = kernel.datapath.load(requestFor(kernel, objectPath));

    const error = await refused(loading, 'LOAD_FAILED', 'the map subject', ...words);

    assert.equal(error.path, 'object_file');
    await assertEmpty(kernel);
  });
}

function requestFor({ iface, bpffs }: Pick<KernelFixture, 'iface' | 'bpffs'>, objectPath: string): LoadRequest {
  const hook = { iface, direction: 'xdpingress' } as const;
  const dir = loadDir(bpffs, { hook, name: 'refused', version: '1.0', digest: '0123456789abcdef', serial: 1 });
  return { hook, dir, objectPath, entryFunction: 'entry', slotMap: '', share: [], fill: [] };
}

describe('maps that together are larger than the host allows are refused before one is made', () => {
  const ALLOWED = 2 ** 20;
  for (const [type, declaration, use, said] of [
    ['HASH', '__type(key, __u32); __type(value, __u64); __uint(max_entries, 2147483648u);', '', '32768 MiB'],
    ['ARRAY', '__type(key, __u32); __type(value, __u64); __uint(max_entries, 131073);', '', '131073 entries'],
    ['LRU_HASH', '__type(key, __u64[2]); __type(value, __u64); __uint(max_entries, 50000);', '', '1.1 MiB'],
    ['RINGBUF', '__uint(max_entries, 1 << 22);', 'query', '4 MiB'],
  ] as const) {
    for (const kind of ['libbpf', 'memory'] as const) {
      test(`${kind}: ${type} with ${declaration.replaceAll(/__|[();]/g, ' ')}`, async (t) => {
        const interfaces = new Map([[kernel.iface, 2]]);
        const { bpffs } = kernel;
        const datapath =
          kind === 'memory'
            ? new MemoryDatapath({ bpffs, interfaces, maxMapBytes: ALLOWED })
            : new LibbpfDatapath({ bpffs, loader, maxMapBytes: ALLOWED });
        t.after(() => datapath.close());
        const objectPath = await compiled(type, declaration, use);

        const loading = datapath.load(requestFor(kernel, objectPath));
        const error = await refused(loading, 'MAPS_TOO_LARGE', 'the largest is subject', said, '1 MiB for one program');

        assert.equal(error.path, 'object_file');
        await assertEmpty(kernel);
      });
    }
  }

  test('one of the allowed size is made, and one that is taken over does not count', async () => {
    const declaration = '__type(key, __u32); __type(value, __u64); __uint(max_entries, 131072);';
    const objectPath = await compiled('ARRAY', declaration, 'first');
    const request = requestFor(kernel, objectPath);
    const datapath = new LibbpfDatapath({ bpffs: kernel.bpffs, loader, maxMapBytes: ALLOWED });
    await datapath.load(request);
    const second = { ...request, dir: `${request.dir.slice(0, -1)}2` };
    const strict = new LibbpfDatapath({ bpffs: kernel.bpffs, loader, maxMapBytes: 0 });

    await refused(strict.load(second), 'MAPS_TOO_LARGE');
    await strict.load({ ...second, share: [{ map: 'subject', pin: mapPin(request.dir, 'subject') }] });

    for (const { dir } of [second, request]) await datapath.discard(dir);
    await Promise.all([datapath.close(), strict.close()]);
    await assertEmpty(kernel);
  });
});
