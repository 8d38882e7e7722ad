import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it, test } from 'node:test';
import { BTF_STRUCTS, type BtfType, KIND, readBtf, unwrap } from '../../../../src/datapath/btf/btf.js';
import * as elf from '../../../../src/datapath/elf/elf.js';
import * as abi from '../../../../src/datapath/libbpf/abi/structs.js';
import { Struct } from '../../../../src/datapath/struct.js';
import { run } from '../../../support/tool.js';

/*
 * A field at a wrong offset fails here, and not on a host.
 */

const STRUCTS = Object.values(abi) as Struct<string>[];
const ELF_STRUCTS = Object.values(elf).filter((value) => value instanceof Struct) as Struct<string>[];

/** Declared by libbpf, unknown to the kernel. */
const isOfLibbpf = ({ name }: Struct<string>) => name.endsWith('_opts') || name === 'bpf_tc_hook';

/** Headers may be older than the kernel; these structures are only in newer ones. */
const isNewer = ({ name }: Struct<string>) => name === 'bpf_attr.link_create';

/** Fields without an offset in C (bit-fields), or without a name in C. */
const NAMELESS = new Set(['disabled', 'dst_reg', 'rest', 'symbol']);

describe('the structures of the ABI, in the BTF of this kernel,', () => {
  let types: BtfType[];
  before(async () => {
    types = readBtf(await readFile('/sys/kernel/btf/vmlinux'));
  });

  for (const struct of STRUCTS.filter((one) => !isOfLibbpf(one))) {
    it(`have the fields of ${struct.name} at our offsets`, () => {
      const [name, ...member] = struct.name.split('.');
      const id = types.findIndex((type) => type.name === name && [KIND.STRUCT, KIND.UNION].includes(type.kind as 4));
      assert.notEqual(id, -1, 'the kernel has no such structure');
      const from = member.length === 0 ? { id, bits: 0 } : find(types, id, member);
      for (const field of struct.fields.filter((each) => each !== 'rest')) {
        const { bits } = find(types, from.id, field.split('.'));
        assert.equal(struct.offsetOf(field), bits / 8, field);
      }
    });
  }
});

/**
 * The offset of a member, in bits, and its type; members of unnamed structures and unions count as those of the outer
 * one.
 */
function find(types: readonly BtfType[], id: number, path: readonly string[]): { id: number; bits: number } {
  const [name, ...deeper] = path;
  const outer = types[unwrap(types, id).id]!;
  for (const member of outer.members) {
    const bits = outer.flag ? member.offset & 0xffffff : member.offset;
    if (member.name === name) {
      if (deeper.length === 0) return { id: member.type, bits };
      const inner = find(types, member.type, deeper);
      return { id: inner.id, bits: bits + inner.bits };
    }
    if (member.name !== '') continue;
    try {
      const inner = find(types, member.type, path);
      return { id: inner.id, bits: bits + inner.bits };
    } catch {
      // In another one, then.
    }
  }
  throw new Error(`${outer.name} has no member ${path.join('.')}`);
}

test('the compiler puts the fields at our offsets, by the headers of the kernel and of libbpf', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'l3af-abi-'));
  t.after(() => rm(dir, { recursive: true }));
  const source = [
    ...[
      'stddef.h',
      'linux/bpf.h',
      'linux/btf.h',
      'linux/perf_event.h',
      'linux/rtnetlink.h',
      'linux/ethtool.h',
      'linux/if.h',
      'linux/inotify.h',
      'elf.h',
    ],
    ...['bpf/bpf.h', 'bpf/libbpf.h'],
  ].map((header) => `#include <${header}>`);
  const structs: Struct<string>[] = [...STRUCTS.filter((struct) => !isNewer(struct)), ...BTF_STRUCTS];
  for (const struct of ELF_STRUCTS) {
    source.push(`_Static_assert(sizeof(${struct.name}) == ${struct.size}, "${struct.name}");`);
  }
  for (const struct of [...structs, ...ELF_STRUCTS]) {
    const type = ELF_STRUCTS.includes(struct) ? struct.name : `struct ${struct.name}`;
    for (const field of struct.fields.filter((name) => !NAMELESS.has(name))) {
      const place = `offsetof(${type}, ${field})`;
      source.push(`_Static_assert(${place} == ${struct.offsetOf(field)}, "${struct.name}.${field}");`);
    }
  }
  assert.deepEqual([structs.length > 10, ELF_STRUCTS.length], [true, 5]);
  await writeFile(join(dir, 'abi.c'), `${source.join('\n')}\n`);

  await run('clang', ['-fsyntax-only', join(dir, 'abi.c')]);
});

test('structures that are requested whole are as long as in the kernel and in libbpf, or in older versions of these', () => {
  const sizes = Object.fromEntries(STRUCTS.map(({ name, size }) => [name, size]));
  assert.deepEqual(
    [sizes.bpf_tc_hook, sizes.bpf_tc_opts, sizes.nlmsghdr, sizes.ifinfomsg, sizes.tcmsg, sizes.bpf_insn, sizes.ifreq],
    [24, 32, 16, 16, 20, 8, 40],
  );
});
