import { endianness } from 'node:os';
import { retry } from '../../src/retry.js';
import { entriesBelow } from '../support/pins.js';
import { run } from '../support/tool.js';

/*
 * Reads the kernel's state with bpftool, which shares no code with the agent.
 */

async function bpftool<Answer>(...args: readonly string[]): Promise<Answer> {
  const { stdout } = await run('bpftool', ['--json', ...args]);
  return JSON.parse(stdout) as Answer;
}

type RawEntry = { readonly value: readonly string[] } | null;

/** The number at a key of a map; 0 if there is no such key, undefined if there is no such map. */
export async function readNumber(pin: string, key: number, keyBytes: number): Promise<number | undefined> {
  try {
    const hexKey = Array.from(hostOrder(key, keyBytes), (byte) => byte.toString(16));
    const entry = await bpftool<RawEntry>('map', 'lookup', 'pinned', pin, 'key', 'hex', ...hexKey);
    return entry === null ? 0 : fromHostOrder(entry.value);
  } catch {
    return undefined;
  }
}

/** The id of the program that a slot names; undefined for an empty one. */
export async function slotTarget(mapId: number): Promise<number | undefined> {
  const entries = await bpftool<readonly { readonly value: readonly string[] }[]>('map', 'dump', 'id', String(mapId));
  return entries[0] === undefined ? undefined : fromHostOrder(entries[0].value);
}

/** Gives a pinned map a second name, so that it outlives its program. */
export async function pinAgain(pin: string, path: string): Promise<void> {
  await bpftool('map', 'pin', 'pinned', pin, path);
}

/** How often bpftool is asked to list links, of which those of others may come and go. */
const LISTINGS = 20;

/** Ids of all programs that are attached by links. */
export async function linkedPrograms(): Promise<number[]> {
  // bpftool fails if the program of a link goes while it looks at the link.
  const links = await retry(() => bpftool<readonly { readonly prog_id?: number }[]>('link', 'show'), {
    backoff: { firstMs: 20, capMs: 500 },
    isPassing: (_error, tries) => tries < LISTINGS,
  });
  return links.flatMap(({ prog_id: id }) => id ?? []);
}

/** Paths of all pins and their folders. */
export function pinsBelow(bpffs: string): string[] {
  return entriesBelow(bpffs).map(({ path }) => path);
}

function hostOrder(value: number, bytes: number): Uint8Array {
  const buffer = Buffer.alloc(bytes);
  if (endianness() === 'LE') buffer.writeUIntLE(value, 0, bytes);
  else buffer.writeUIntBE(value, 0, bytes);
  return buffer;
}

/** @param bytes in the format of bpftool: `0x1f` */
function fromHostOrder(bytes: readonly string[]): number {
  const ordered = endianness() === 'LE' ? bytes.toReversed() : bytes;
  return ordered.reduce((value, byte) => value * 256 + Number(byte), 0);
}
