import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { ErrorCode } from '../../../../src/errors.js';
import { command, type KernelFixture, kernelFixture } from '../../../contract/kernel.js';
import {
  assertEmpty,
  discard,
  type Loaded,
  load,
  observed,
  refused,
  requestFor,
  XDP_ROOT,
} from '../../../contract/samples.js';
import { compileObject } from '../../../support/compile.js';

/*
 * What foreign packages have in their objects, each thing on its own: test/native/kinds.bpf.c. What does not work is
 * refused with a sentence that says what to do.
 */

let kernel: KernelFixture;
let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'l3af-kinds-'));
});
after(() => rm(dir, { recursive: true }));
beforeEach(async () => {
  kernel = await kernelFixture();
});
afterEach(() => kernel.close());

/** Compiles a case of kinds.bpf.c. @returns the object's path */
async function compiled(name: string, ...options: string[]): Promise<string> {
  const path = join(dir, `${name}${options.join('').replaceAll(/[^a-z0-9]/gi, '_')}.o`);
  if (existsSync(path)) return path;
  await compileObject('kinds', path, `-DCASE_${name}`, ...options);
  return path;
}

const KINDS = { object: 'kinds', entryFunction: 'xdp_kinds', slotMap: '' };

async function loadKinds(objectPath: string, slotMap = ''): Promise<Loaded> {
  return await load(kernel, { ...KINDS, slotMap }, 'xdpingress', { objectPath });
}

async function refusedKinds(objectPath: string, code: ErrorCode, ...words: RegExp[]): Promise<void> {
  await refused(kernel.datapath.load(requestFor(kernel, KINDS, 'xdpingress', { objectPath })), code, ...words);
  await assertEmpty(kernel);
}

async function mapsOf(loaded: Loaded): Promise<string[]> {
  return (await observed(kernel, loaded))!.maps.map(({ name }) => name).toSorted();
}

describe('is loaded:', () => {
  const LOADED: readonly (readonly [string, string, readonly RegExp[], ...string[]])[] = [
    ['a map that asks to be pinned by its name, which is left undone', 'pin_by_name', [/^kinds_pinned$/]],
    ['global data', 'global_data', [/bss$/, /data$/, /rodata$/]],
    ["values of the kernel's configuration", 'kconfig', [/kconfig$/]],
    ['functions of its own, static and global', 'subprograms', []],
    ['no type information and no maps', 'none', [], '-g0'],
    ['a section of a name that nobody knows', 'none', [], '-DSECTION="my/own section"'],
    ['fragments', 'none', [], '-DSECTION="xdp.frags"'],
    ['a section for another hook', 'none', [], '-DSECTION="xdp/devmap"'],
    [
      'maps of all kinds',
      'map_kinds',
      ['cpus', 'devices', 'events', 'inner', 'lru', 'outer', 'prefixes', 'queue', 'ring', 'sockets', 'stacks'].map(
        (name) => new RegExp(`^kinds_${name}$`),
      ),
    ],
  ];
  for (const [what, name, maps, ...options] of LOADED) {
    test(what, async () => {
      const loaded = await loadKinds(await compiled(name, ...options));

      const found = await mapsOf(loaded);
      assert.equal(found.length, maps.length, found.join());
      for (const [index, pattern] of maps.entries()) assert.match(found[index]!, pattern);
      assert.ok(!existsSync('/sys/fs/bpf/kinds_pinned'), 'pinned where libbpf wants it');
      await discard(kernel, loaded);
    });
  }

  test('a PROG_ARRAY of its own with several entries beside the slot, and a slot with a long name', async () => {
    const [own, long] = [
      await loadKinds(await compiled('own_array'), 'kinds_next'),
      await loadKinds(await compiled('long_slot'), 'kinds_next_program_of_the_chain'),
    ];

    assert.deepEqual([await mapsOf(own), await mapsOf(long)], [['kinds_stages'], []]);
    await kernel.datapath.setSlot(own.slot, long.program);
    assert.equal((await observed(kernel, own))?.slot?.next, (await observed(kernel, long))?.programId);
    await kernel.datapath.setSlot(own.slot, null);
    await discard(kernel, own, long);
  });

  test('an object that was linked from several', async () => {
    const path = join(dir, 'linked.o');
    await command(
      'bpftool',
      'gen',
      'object',
      path,
      await compiled('array'),
      await compiled('pin_by_name', '-Dxdp_kinds=xdp_others', '-Dkinds_license=others_license'),
    );

    const loaded = await loadKinds(path);

    assert.deepEqual(await mapsOf(loaded), ['kinds_array', 'kinds_pinned']);
    await discard(kernel, loaded);
  });
});

test('a program with fragments is refused behind one without, with the reason', async () => {
  const [root, frags] = [
    await load(kernel, XDP_ROOT, 'xdpingress'),
    await loadKinds(await compiled('none', '-DSECTION="xdp.frags"')),
  ];

  await refused(kernel.datapath.setSlot(root.slot, frags.program), 'KERNEL', 'xdp.frags');

  await discard(kernel, root, frags);
});

describe('is refused:', () => {
  const REFUSED: readonly (readonly [string, ErrorCode, readonly RegExp[], string, ...string[]])[] = [
    ['map definitions of old', 'OBJECT_INVALID', [/the old way/, /SEC\("\.maps"\)/], 'legacy_maps'],
    ['maps without type information', 'OBJECT_INVALID', [/BTF/, /-g/], 'array', '-g0'],
    ['big-endian code', 'OBJECT_INVALID', [/big-endian/, /bpfel/], 'none', '-target', 'bpfeb'],
    ['a helper that wants the GPL, without it', 'VERIFIER_REJECTED', [/GPL/], 'gpl_helper', '-DLICENSE="Proprietary"'],
    ["a value that the kernel's configuration lacks", 'LOAD_FAILED', [/CONFIG_L3AF_DOES_NOT_EXIST/], 'kconfig_missing'],
    ['operations for the kernel, of which libbpf may die', 'OBJECT_INVALID', [/\.struct_ops/], 'struct_ops'],
  ];
  for (const [what, code, words, name, ...options] of REFUSED) {
    test(what, async () => await refusedKinds(await compiled(name, ...options), code, ...words));
  }

  test('a program for this machine', async () => {
    await refusedKinds(process.execPath, 'OBJECT_INVALID', /for another machine than eBPF/, /clang -target bpf/);
  });
});
