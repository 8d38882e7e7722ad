import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Direction } from '../../support/directions.js';

import { type PackageName, type PayloadProgram, payloadProgram } from '../../support/packages.js';
import { type Chain, type KernelState, type Member, namesOf, numberIn, pathsIn } from './kernel.js';
import { DISCARD_PORT, eventually, PROBE_PORT, type Stage } from './stage.js';

/** Packets of each kind that {@link assertPacketsPass} sends. */
const ORDINARY = 40;
const PROBES = 20;

const ROOT = {
  xdpingress: { name: 'xdp-root', slot: 'xdp_root_array' },
  ingress: { name: 'tc-root', slot: 'tc_ingress_root_array' },
  egress: { name: 'tc-root', slot: 'tc_egress_root_array' },
} as const satisfies Record<Direction, { name: string; slot: string }>;

/**
 * Checks that a chain of markers is as requested, in the kernel and for packets: the root, and the programs in order.
 * The counters must show that each packet has passed each program once and in order.
 *
 * @param names `xdp-mark-1@1.0`, without the root
 */
export async function assertChain(
  stage: Stage,
  names: readonly string[],
  direction: Direction = 'xdpingress',
): Promise<Chain> {
  const chain = await assertLinked(stage, names, direction);
  await assertPacketsPass(stage, chain, direction);
  return chain;
}

/** Like {@link assertChain}, but for programs of any kind, and without packets. */
export async function assertLinked(
  stage: Stage,
  names: readonly string[],
  direction: Direction = 'xdpingress',
): Promise<Chain> {
  const chain = await stage.chain(direction);
  assert.ok(chain !== undefined, `nothing is attached at ${direction}`);
  assert.equal(chain.members[0]?.name, ROOT[direction].name);
  assert.deepEqual(namesOf(chain), names);
  return chain;
}

/** Checks that each map of a chain has its public pin at l3afd's path. The slot's name there is the payload's. */
export function assertPublicMaps(
  state: KernelState,
  chain: Chain,
  { iface, direction, slot }: { iface: string; direction: Direction; slot: string },
): void {
  for (const [index, { dir, name, version }] of chain.members.entries()) {
    const base = join(direction === 'xdpingress' ? '' : 'tc/globals', iface, name, version);
    const own = state.maps.filter(({ pin }) => pin.startsWith(`${dir}/`));
    assert.ok(own.length > 0, dir);
    for (const { pin, id } of own) {
      const map = pin === `${dir}/slot` ? (index === 0 ? ROOT[direction].slot : slot) : basename(pin);
      const named = state.maps.find((other) => other.pin === join(base, map));
      assert.equal(named?.id, id, `${join(base, map)} should be the map at ${pin}`);
    }
  }
}

/** Sends probes and ordinary packets through a chain of markers. Every program must count each once, in order. */
async function assertPacketsPass(stage: Stage, chain: Chain, direction: Direction): Promise<void> {
  const markers = chain.members.slice(1);
  const tail = markers.at(-1)!;
  const path = markers.map(({ name }) => name.slice(name.lastIndexOf('-') + 1)).join('-');
  const ordinaryBefore = await counts(stage, markers, 'mark_packets');
  const probesBefore = await counts(stage, markers, 'mark_seen');
  const pathsBefore = await pathsIn(mapOf(stage, tail, 'mark_paths'));

  const send = direction === 'egress' ? stage.transmit.bind(stage) : stage.receive.bind(stage);
  await send(ORDINARY, DISCARD_PORT);
  await send(PROBES, PROBE_PORT);

  const arrived = (before: readonly number[], more: number) => before.map((count) => count + more);
  await eventually(
    () => counts(stage, [tail], 'mark_seen'),
    ([count]) => count! >= probesBefore.at(-1)! + PROBES,
    `${tail.name} should see ${PROBES} probes`,
  );
  assert.deepEqual(await counts(stage, markers, 'mark_packets'), arrived(ordinaryBefore, ORDINARY));
  assert.deepEqual(await counts(stage, markers, 'mark_seen'), arrived(probesBefore, PROBES));
  const paths = await pathsIn(mapOf(stage, tail, 'mark_paths'));
  assert.deepEqual(paths, { ...pathsBefore, [path]: (pathsBefore[path] ?? 0) + PROBES });
}

/** Path of a map of a program in a chain, independent of its public name. */
export function mapOf(stage: Stage, member: Member, map: string): string {
  return join(stage.bpffs, member.dir, 'maps', map);
}

/**
 * Like {@link mapOf}, but for a program in version 1.0 that is loaded once at a hook. It does not read the chain.
 * (Programs of both TC hooks share their public names.)
 */
export async function loadedMap(stage: Stage, direction: Direction, name: string, map: string): Promise<string> {
  const loads = join(stage.bpffs, 'progs', stage.bed.iface, name, '1_0');
  const [load, ...others] = (await readdir(loads)).filter((folder) => folder.startsWith(`${direction}-`));
  assert.ok(load !== undefined && others.length === 0, `${name} should be loaded once at ${direction}`);
  return join(loads, load, 'maps', map);
}

async function counts(stage: Stage, members: readonly Member[], map: string): Promise<number[]> {
  return Promise.all(members.map(async (member) => (await numberIn(mapOf(stage, member, map))) ?? Number.NaN));
}

/** The numbered markers in this order, at `seq_id` 10, 20, 30. */
export function marks(numbers: readonly number[], kind: 'xdp' | 'tc' = 'xdp'): PayloadProgram[] {
  return numbers.map((number, index) =>
    payloadProgram(`${kind}-mark-${number}` as PackageName, { seq_id: 10 * (index + 1) }),
  );
}

/** The result for each program, by name. */
export const resultsOf = ({ programs }: { programs: readonly { name: string; result: string }[] }) =>
  Object.fromEntries(programs.map(({ name, result }) => [name, result]));
