import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { builtObject } from './project.js';

/*
 * Copies of the real objects with damaged descriptions: type information, symbols, section headers, map definitions.
 * The same seed gives the same copies.
 */

/** What is damaged: sections by name, the table of section headers, or the header of the file. */
const TARGETS = ['.BTF', '.BTF.ext', '.symtab', '.strtab', '.maps', 'sections', 'header', 'relocations'] as const;
type Target = (typeof TARGETS)[number];

export interface DamagedObject {
  /** The object and the damage; the same words mean the same bytes. */
  readonly what: string;
  readonly bytes: Buffer;
  /** Name of one of its program functions before the damage. */
  readonly object: string;
}

interface Span {
  readonly begin: number;
  readonly end: number;
}

/** Names of all objects of native/build. */
export function objectNames(): string[] {
  return readdirSync(dirname(builtObject('x')))
    .filter((name) => name.endsWith('.bpf.o'))
    .map((name) => name.slice(0, -'.bpf.o'.length))
    .toSorted();
}

/** A number of damaged copies, of one object after the other. */
export function* damagedObjects(seed: number, count: number): Generator<DamagedObject> {
  const random = randomNumbers(seed);
  const names = objectNames();
  const wholes = new Map(names.map((name) => [name, readFileSync(join(builtObject(name)))]));
  for (let index = 0; index < count; index++) {
    const object = names[index % names.length]!;
    const bytes = Buffer.from(wholes.get(object)!);
    const target = TARGETS[Math.floor(index / names.length) % TARGETS.length]!;
    const spans = spansOf(bytes, target);
    const span = spans[random(Math.max(1, spans.length))] ?? { begin: 0, end: 64 };
    const [damage, damaged] = damageIn(bytes, span, random);
    yield { what: `${object}, ${target} (${seed}/${index}): ${damage}`, bytes: damaged, object };
  }
}

function damageIn(bytes: Buffer, { begin, end }: Span, random: (below: number) => number): [string, Buffer] {
  const within = () => begin + random(Math.max(1, end - begin));
  switch (random(8)) {
    case 0: {
      const at = within();
      return [`cut off at ${at}`, bytes.subarray(0, at)];
    }
    case 1:
    case 2: {
      const places = Array.from({ length: 1 + random(4) }, within);
      for (const at of places) bytes[at] = bytes[at]! ^ (1 << random(8));
      return [`bits flipped at ${places.join(', ')}`, bytes];
    }
    case 3: {
      const [at, value] = [within(), random(256)];
      bytes[at] = value;
      return [`${value} at ${at}`, bytes];
    }
    default: {
      // Lengths, offsets and ids are 32-bit words.
      const at = Math.min(begin + Math.floor((within() - begin) / 4) * 4, bytes.length - 4);
      const near = bytes.readUInt32LE(at) + random(5) - 2;
      const values = [0, 1, 0xffff_ffff, 0x7fff_ffff, 0x8000_0000, near >>> 0, random(300)];
      const value = values[random(values.length)]!;
      bytes.writeUInt32LE(value, at);
      return [`${value} in the word at ${at}`, bytes];
    }
  }
}

function spansOf(bytes: Buffer, target: Target): Span[] {
  if (target === 'header') return [{ begin: 0, end: 64 }];
  const table = Number(bytes.readBigUInt64LE(40));
  const count = bytes.readUInt16LE(60);
  if (target === 'sections') return [{ begin: table, end: table + count * 64 }];
  const headers = Array.from({ length: count }, (_, index) =>
    bytes.subarray(table + index * 64, table + index * 64 + 64),
  );
  const spanOf = (header: Buffer): Span => {
    const begin = Number(header.readBigUInt64LE(24));
    return { begin, end: begin + Number(header.readBigUInt64LE(32)) };
  };
  const names = spanOf(headers[bytes.readUInt16LE(62)]!);
  const nameOf = (header: Buffer) => {
    const begin = names.begin + header.readUInt32LE(0);
    return bytes.toString('latin1', begin, bytes.indexOf(0, begin));
  };
  const wanted = (name: string) => (target === 'relocations' ? name.startsWith('.rel') : name === target);
  return headers.filter((header) => wanted(nameOf(header))).map(spanOf);
}

/** A small generator with the same results everywhere (mulberry32). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
