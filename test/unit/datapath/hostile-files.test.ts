import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readBtf } from '../../../src/datapath/btf/btf.js';
import { checkBtf } from '../../../src/datapath/btf/check.js';
import { layoutsIn } from '../../../src/datapath/btf/layout.js';
import { functionOffset } from '../../../src/datapath/elf/symbols.js';

/*
 * Packages name the file of a uprobe, and contain type information. Neither may block the agent.
 */

const HEADER_BYTES = 24;

/** `.BTF` with so many integers. Each claims to have 65,535 elements. */
function btfOfIntegers(count: number): Buffer {
  return btf(...Array.from({ length: count }, () => [0, 0x0100ffff, 4, 32]));
}

/** `.BTF` with these types. Each type is words: name, kind and count, size or type, and what follows. */
function btf(...words: number[][]): Buffer {
  const types = Buffer.from(new Uint32Array(words.flat()).buffer);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16LE(0xeb9f, 0);
  header.writeUInt32LE(HEADER_BYTES, 4);
  header.writeUInt32LE(types.length, 12);
  header.writeUInt32LE(types.length, 16);
  header.writeUInt32LE(1, 20);
  return Buffer.concat([header, types, Buffer.alloc(1)]);
}

describe('type information', () => {
  it('has no elements if its kind has none, whatever it claims', () => {
    const types = readBtf(btfOfIntegers(100));

    assert.equal(types.length, 101);
    assert.deepEqual(types.at(-1), { ...types[0], name: '', kind: 1, size: 4, int: 32 });
  });
});

/** Kind and count of elements, as encoded in a type. */
const [TYPEDEF, STRUCT, ARRAY, FUNC] = [0x0800_0000, 0x0400_0001, 0x0300_0000, 0x0c00_0000];

describe('type information that cannot be followed', () => {
  const DAMAGED: readonly (readonly [string, Buffer, RegExp])[] = [
    ['a typedef of a missing type', btf([0, TYPEDEF, 7]), /type 1 refers to type 7/],
    ['a typedef of itself', btf([0, TYPEDEF, 1]), /type 1 contains itself/],
    ['a struct in itself', btf([0, STRUCT, 8, 0, 1, 0]), /type 1 contains itself/],
    ['an array of itself through a typedef', btf([0, ARRAY, 0, 2, 0, 4], [0, TYPEDEF, 1]), /type 1 contains itself/],
    ['a function without a prototype', btf([0, FUNC, 0]), /type 1 is a function without a prototype/],
    ['an unknown kind', btf([0, 0x1f00_0000, 0]), /unknown kind 31/],
    ['a struct that is cut short', btf([0, STRUCT, 8]), /reaches beyond/],
  ];
  for (const [what, data, words] of DAMAGED) {
    it(`is reported: ${what}`, () => assert.throws(() => checkBtf(data), words));
  }

  it('gives no layout, but the map may still be loaded', () => {
    for (const [, data] of DAMAGED.slice(0, 4)) assert.deepEqual(layoutsIn(readBtf(data), 1, 9), {});
  });

  it('does not include a struct that points to itself', () =>
    checkBtf(btf([0, STRUCT, 8, 0, 2, 0], [0, 0x0200_0000, 1])));
});

describe('the file of a uprobe', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'l3af-uprobe-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('must be a regular file: the agent does not wait for a FIFO', () => {
    const fifo = join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);

    assert.throws(() => functionOffset(fifo, 'f'), { code: 'ATTACH_FAILED', message: /not a regular file/ });
  });

  it('is refused if it claims to be longer than it is, before memory is allocated for it', async () => {
    const header = Buffer.alloc(64);
    header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
    // e_shoff, e_shentsize and e_shnum: sections beyond the end of the file.
    header.writeBigUInt64LE(2n ** 32n, 40);
    header.writeUInt16LE(64, 58);
    header.writeUInt16LE(65_535, 60);
    await writeFile(join(dir, 'short'), header);

    assert.throws(() => functionOffset(join(dir, 'short'), 'f'), { code: 'ATTACH_FAILED', message: /truncated/ });
  });
});
