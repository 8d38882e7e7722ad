import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readBtf } from '../../../src/datapath/btf.js';
import { functionOffset } from '../../../src/datapath/elf-symbols.js';

/*
 * Packages say which file a uprobe is for, and bring type information of their own: neither may hold up the agent.
 */

const HEADER_BYTES = 24;

/** `.BTF` with so many integers, each of which claims to have 65,535 elements. */
function btfOfIntegers(count: number): Buffer {
  const types = Buffer.concat(
    Array.from({ length: count }, () => {
      const type = Buffer.alloc(16);
      type.writeUInt32LE(0x0100ffff, 4);
      type.writeUInt32LE(4, 8);
      type.writeUInt32LE(32, 12);
      return type;
    }),
  );
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16LE(0xeb9f, 0);
  header.writeUInt32LE(HEADER_BYTES, 4);
  header.writeUInt32LE(types.length, 12);
  header.writeUInt32LE(types.length, 16);
  return Buffer.concat([header, types, Buffer.alloc(1)]);
}

describe('type information', () => {
  it('has no elements where its kind has none, whatever it claims', () => {
    const types = readBtf(btfOfIntegers(100));

    assert.equal(types.length, 101);
    assert.deepEqual(types.at(-1), { ...types[0], name: '', kind: 1, size: 4, int: 32 });
  });
});

describe('the file of a uprobe', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'l3af-uprobe-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('has to be a regular one: a FIFO is not waited for', () => {
    const fifo = join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);

    assert.throws(() => functionOffset(fifo, 'f'), { code: 'ATTACH_FAILED', message: /not a regular file/ });
  });

  it('is refused where it claims to be longer than it is, before memory is taken for that', async () => {
    const header = Buffer.alloc(64);
    header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
    // e_shoff, e_shentsize and e_shnum: sections where the file has ended.
    header.writeBigUInt64LE(2n ** 32n, 40);
    header.writeUInt16LE(64, 58);
    header.writeUInt16LE(65_535, 60);
    await writeFile(join(dir, 'short'), header);

    assert.throws(() => functionOffset(join(dir, 'short'), 'f'), { code: 'ATTACH_FAILED', message: /cut short/ });
  });
});
