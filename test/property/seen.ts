import assert from 'node:assert/strict';
import { LISTS, type List } from './codes.js';
import { identityOf, keyOf, type Model, type Place, type Running } from './model.js';

/*
 * The observed state, and checks against the model. Paths are those of l3afd, below the bpffs.
 */

/** One pinned loaded program of a program. */
export interface SeenProgram extends Place {
  readonly name: string;
  /** As in paths: `1_0`. */
  readonly version: string;
  /** Its folder. */
  readonly dir: string;
  /** Undefined if its program is not pinned. */
  readonly id: number | undefined;
  /** Undefined if it has no slot. */
  readonly slot: { readonly mapId: number; readonly next: number | null } | undefined;
  /** Name to id of every map except the slot. */
  readonly maps: ReadonlyMap<string, number>;
}

export interface SeenLink extends Place {
  readonly pin: string;
  readonly programId: number;
  /** Whether packets pass it. */
  readonly attached: boolean;
}

export interface Seen {
  readonly programs: readonly SeenProgram[];
  readonly links: readonly SeenLink[];
  /** Public path to map id. */
  readonly names: ReadonlyMap<string, number>;
}

/** Reads an entry of a map; undefined if there is none. */
export type ReadEntry = (pin: string, key: Uint8Array) => Promise<Uint8Array | undefined>;

const ROOTS: Readonly<Record<List, { readonly name: string; readonly slot: string }>> = {
  xdp_ingress: { name: 'xdp-root', slot: 'xdp_root_array' },
  tc_ingress: { name: 'tc-root', slot: 'tc_ingress_root_array' },
  tc_egress: { name: 'tc-root', slot: 'tc_egress_root_array' },
};
const ROOT_VERSION = 'latest';

const LIST_OF_DIRECTION: Readonly<Record<string, List>> = {
  xdpingress: 'xdp_ingress',
  ingress: 'tc_ingress',
  egress: 'tc_egress',
};

/** The payload list for a direction of l3afd. */
export function listOf(direction: string): List {
  const list = LIST_OF_DIRECTION[direction];
  assert.ok(list !== undefined, `${direction} is no direction`);
  return list;
}

/** The programs that packets pass at a place, root first. */
export function chainIn(seen: Seen, place: Place): SeenProgram[] {
  const links = seen.links.filter((link) => keyOf(link) === keyOf(place));
  assert.ok(links.length <= 1, `several links at ${keyOf(place)}: ${links.map(({ pin }) => pin).join(', ')}`);
  const chain: SeenProgram[] = [];
  const first = links.find(({ attached }) => attached)?.programId ?? null;
  for (let next = first; next !== null; next = chain.at(-1)?.slot?.next ?? null) {
    const program = seen.programs.find((other) => keyOf(other) === keyOf(place) && other.id === next);
    assert.ok(program !== undefined, `program ${next} is in the chain at ${keyOf(place)}, but not pinned there`);
    assert.ok(!chain.includes(program), `the chain at ${keyOf(place)} goes round`);
    chain.push(program);
  }
  return chain;
}

/** Asserts that chains, public names and maps are exactly those of the model, and that nothing else exists. */
export async function assertAsModelled(model: Model, seen: Seen, read: ReadEntry): Promise<void> {
  const names = new Map<string, number>();
  let programs = 0;
  // If two programs have the same name, the one in the earlier list gets the public name of a map.
  for (const place of model.places().toSorted((a, b) => LISTS.indexOf(a.list) - LISTS.indexOf(b.list))) {
    const running = model.runningAt(place);
    const chain = chainIn(seen, place);
    const root = running.length === 0 ? [] : [`${ROOTS[place.list].name}@${ROOT_VERSION}`];
    const wanted = running.map(({ wire }) => `${wire.name}@${segment(wire.version)}`);
    const found = chain.map(({ name, version }) => `${name}@${version}`);
    assert.deepEqual(found, [...root, ...wanted], `the chain at ${keyOf(place)}`);
    for (const [index, program] of chain.entries()) {
      const member = running[index - 1];
      const slot = member === undefined ? ROOTS[place.list].slot : member.wire.map_name;
      for (const [path, id] of publicNames(program, slot)) if (!names.has(path)) names.set(path, id);
      if (member !== undefined) await assertMaps(member, program, read);
    }
    programs += chain.length;
  }
  assert.deepEqual(sorted(seen.names), sorted(names), 'public names of maps');
  assert.equal(seen.programs.length, programs, `programs are pinned that are in no chain: ${told(seen)}`);
  const hooked = model.places().filter((place) => model.runningAt(place).length > 0);
  assert.deepEqual(seen.links.map(keyOf).toSorted(), hooked.map(keyOf).toSorted(), 'links');
}

/** For each place: what runs there, with the kernel's program ids. */
export type Standing = ReadonlyMap<string, readonly { readonly identity: string; readonly id: number | undefined }[]>;

export function standingIn(model: Model, seen: Seen): Standing {
  return new Map(
    model.places().map((place) => {
      const ids = chainIn(seen, place).slice(1);
      return [
        keyOf(place),
        model.runningAt(place).map(({ wire }, n) => ({ identity: identityOf(wire), id: ids[n]?.id })),
      ];
    }),
  );
}

/** Asserts that the equal programs at the beginning and the end of a chain were not loaded again. */
export function assertStayed(before: Standing, after: Standing): void {
  for (const [place, now] of after) {
    const [one, other] = [[...(before.get(place) ?? [])], [...now]];
    while (one.length > 0 && one[0]?.identity === other[0]?.identity) {
      assert.equal(other.shift()?.id, one.shift()?.id, `a program at the beginning of ${place} was loaded again`);
    }
    while (one.length > 0 && one.at(-1)?.identity === other.at(-1)?.identity) {
      assert.equal(other.pop()?.id, one.pop()?.id, `a program at the end of ${place} was loaded again`);
    }
  }
}

function publicNames({ iface, list, name, version, slot, maps }: SeenProgram, slotName: string): [string, number][] {
  const base = `${list === 'xdp_ingress' ? '' : 'tc/globals/'}${iface}/${name}/${version}`;
  const own: [string, number][] = [...maps].map(([map, id]) => [`${base}/${map}`, id]);
  return slot === undefined ? own : [...own, [`${base}/${slotName}`, slot.mapId]];
}

async function assertMaps({ wire, code, maps }: Running, { dir, maps: seen }: SeenProgram, read: ReadEntry) {
  // If the payload does not name the slot, it is an ordinary map in the kernel, and missing in the memory datapath.
  const names = [...seen.keys()].filter((name) => name !== code.slot).toSorted();
  assert.deepEqual(names, Object.keys(code.maps).toSorted(), `maps of ${dir}`);
  for (const [name, entries] of maps) {
    for (const [key, expected] of entries) {
      const value = await read(`${dir}/maps/${name}`, littleEndian(key, name === 'mark_paths' ? 8 : 4));
      const number = value === undefined ? undefined : numberOf(value);
      assert.equal(number, expected, `${name}[${key}] of ${wire.name} (${dir})`);
    }
  }
}

/** A version in the form for paths. */
function segment(version: string): string {
  return version.replaceAll('.', '_');
}

function told({ programs }: Seen): string {
  return programs.map(({ dir }) => dir).join(', ');
}

function sorted(names: ReadonlyMap<string, number>): [string, number][] {
  return [...names].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function littleEndian(number: bigint, size: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(number);
  return bytes.subarray(0, size);
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
}
