import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type ChainHook, targetName } from '../../../src/domain/hook.js';
import { targetSegment } from '../../../src/domain/pins.js';
import { existing } from '../../support/kernel-ids.js';
import { entriesBelow } from '../../support/pins.js';
import { run, withSystemTools } from '../../support/tool.js';

/*
 * The contents of the kernel and of a bpffs, read with bpftool and readdir. It uses none of the agent's code, except
 * the layout of the pins, which is an interface.
 */

/** Everything in one bpffs at one moment. */
export interface KernelState {
  /** Every pin and every folder, as sorted paths in the bpffs. */
  readonly entries: readonly string[];
  readonly programs: readonly PinnedProgram[];
  readonly maps: readonly PinnedMap[];
  readonly links: readonly PinnedLink[];
  /** Maps the id of each PROG_ARRAY to the program id at its key 0, without empty ones. */
  readonly slots: ReadonlyMap<number, number>;
}

export interface PinnedProgram {
  readonly pin: string;
  readonly id: number;
  readonly mapIds: readonly number[];
}

export interface PinnedMap {
  readonly pin: string;
  readonly id: number;
  readonly type: string;
}

export interface PinnedLink {
  readonly pin: string;
  readonly id: number;
  readonly programId: number;
}

export interface Chain {
  readonly linkId: number;
  /** In the order in which packets pass them; the root first. */
  readonly members: readonly Member[];
}

export interface Member {
  readonly name: string;
  /** As in paths: `1_0`. */
  readonly version: string;
  readonly programId: number;
  readonly slotId: number;
  readonly mapIds: readonly number[];
  /** Where the loaded program is pinned in the bpffs. */
  readonly dir: string;
}

/** Kernel ids, by kind of object. */
export interface Ids {
  readonly prog: ReadonlySet<number>;
  readonly map: ReadonlySet<number>;
  readonly link: ReadonlySet<number>;
}

export async function readKernel(bpffs: string): Promise<KernelState> {
  const all = entriesBelow(bpffs);
  const pins = all.filter(({ isPin }) => isPin).map(({ path }) => ({ path, kind: kindOf(path) }));
  const found = (await Promise.all([showLinks(bpffs, pins), showOthers(bpffs, pins)])).flat();
  const maps = found
    .filter(({ kind }) => kind === 'map')
    .map(({ pin, shown: { id, type } }) => ({ pin, id, type: String(type) }));
  // Read by pin, not by id. If somebody unpins a map at this moment, an access by id can make the kernel keep the map
  // forever: see ../../support/kernel-ids.ts.
  const slotPins = new Map(maps.filter(({ type }) => type === 'prog_array').map(({ id, pin }) => [id, pin]));
  const slotIds = [...slotPins.keys()];
  const dumps = await batch<RawEntry[]>([...slotPins.values()].map((pin) => `map dump pinned ${join(bpffs, pin)}`));
  return {
    entries: all.map(({ path }) => path).toSorted(),
    programs: found
      .filter(({ kind }) => kind === 'prog')
      .map(({ pin, shown: { id, map_ids: mapIds } }) => ({ pin, id, mapIds: mapIds ?? [] })),
    maps,
    links: found
      .filter(({ kind }) => kind === 'link')
      .map(({ pin, shown: { id, prog_id: programId } }) => ({ pin, id, programId: programId ?? 0 })),
    slots: new Map(
      slotIds.flatMap((id, index) => dumps[index]!.map((entry) => [id, numberOf(entry.value)] as [number, number])),
    ),
  };
}

interface Pin {
  readonly path: string;
  readonly kind: 'prog' | 'map' | 'link';
}

interface Found {
  readonly pin: string;
  readonly kind: Pin['kind'];
  readonly shown: Shown;
}

async function showOthers(bpffs: string, pins: readonly Pin[]): Promise<Found[]> {
  const others = pins.filter(({ kind }) => kind !== 'link');
  const shown = await batch<Shown>(others.map(({ path, kind }) => `${kind} show pinned ${join(bpffs, path)}`));
  return others.map(({ path, kind }, index) => ({ pin: path, kind, shown: shown[index]! }));
}

/** Shows links one by one. After a pinned link, bpftool 7.5 of Debian 13 ends with status 255, and so ends a batch. */
function showLinks(bpffs: string, pins: readonly Pin[]): Promise<Found[]> {
  const links = pins.filter(({ kind }) => kind === 'link');
  return Promise.all(
    links.map(async ({ path, kind }) => {
      const { output, complaints } = await answerOf(['link', 'show', 'pinned', join(bpffs, path)]);
      const shown = JSON.parse(output || 'null') as (Shown & { readonly error?: string }) | null;
      assert.ok(shown !== null && shown.error === undefined, `bpftool: ${shown?.error ?? complaints} (${path})`);
      return { pin: path, kind, shown };
    }),
  );
}

interface Shown {
  readonly id: number;
  readonly type?: string | number;
  readonly map_ids?: readonly number[];
  readonly prog_id?: number;
}

interface RawEntry {
  /** Bytes in the order of the map: `0x1f`. */
  readonly value: readonly string[];
}

function kindOf(pin: string): Pin['kind'] {
  const isProbe = pin.startsWith('progs/') && pin.includes('/probes/');
  if (pin.startsWith('links/') || (isProbe && pin.endsWith('/link'))) return 'link';
  return pin.startsWith('progs/') && pin.endsWith('/prog') ? 'prog' : 'map';
}

/** Runs bpftool once for any number of commands. */
async function batch<Answer>(commands: readonly string[]): Promise<Answer[]> {
  if (commands.length === 0) return [];
  const { output, complaints } = await answerOf(['batch', 'file', '-'], `${commands.join('\n')}\n`);
  const all = JSON.parse(output || '[]') as {
    readonly command?: readonly string[];
    readonly output: Answer & { readonly error?: string };
  }[];
  // Debian's bpftool 7.1 closes a map's descriptor twice. It takes the resulting EBADF for a failure to read the batch,
  // and adds a last answer without a command.
  const answers = all.filter(({ command }) => command !== undefined);
  const failed = answers.find(({ output: answer }) => answer?.error !== undefined);
  const whole = failed === undefined && answers.length === commands.length;
  assert.ok(whole, `bpftool: ${failed?.output.error ?? complaints} (${commands[answers.length - 1]})`);
  return answers.map(({ output: answer }) => answer);
}

/** The output of bpftool, whatever its exit status. */
async function answerOf(args: readonly string[], input?: string): Promise<{ output: string; complaints: string }> {
  const stdin = input === undefined ? 'ignore' : 'pipe';
  const child = spawn('bpftool', ['--json', ...args], { env: withSystemTools(), stdio: [stdin, 'pipe', 'pipe'] });
  child.stdin?.end(input);
  const [output, complaints] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { output, complaints };
}

/**
 * The chain at a hook in the order of packets: from the pinned link to its program, and from slot to slot.
 *
 * @returns undefined if the agent has no pinned link at the hook
 */
export function chainAt(state: KernelState, hook: ChainHook): Chain | undefined {
  const { direction } = hook;
  const links = state.links.filter(
    ({ pin }) => pin.startsWith(`links/${targetSegment(targetName(hook))}/`) && pin.endsWith(`/${direction}`),
  );
  assert.ok(links.length <= 1, `several links for one hook: ${links.map(({ pin }) => pin).join(', ')}`);
  const [link] = links;
  if (link === undefined) return undefined;
  const members: Member[] = [];
  for (let next: number | undefined = link.programId; next !== undefined; ) {
    const member = memberOf(state, next);
    assert.ok(!members.some(({ programId }) => programId === next), `the chain goes round: ${JSON.stringify(members)}`);
    members.push(member);
    next = state.slots.get(member.slotId);
  }
  return { linkId: link.id, members };
}

function memberOf({ programs, maps }: KernelState, programId: number): Member {
  const program = programs.find(({ id }) => id === programId);
  assert.ok(program !== undefined, `program ${programId} is in a chain, but not pinned`);
  const dir = program.pin.slice(0, -'/prog'.length);
  const slot = maps.find(({ pin }) => pin === `${dir}/slot`);
  assert.equal(slot?.type, 'prog_array', `${dir}/slot`);
  assert.ok(program.mapIds.includes(slot!.id), `${dir}/slot is no map of its program`);
  const [, , name = '', version = ''] = dir.split('/');
  return { name, version, programId, slotId: slot!.id, mapIds: program.mapIds, dir };
}

/** `name@version` of each program of a chain, without its root; `[]` if there is no chain. */
export function namesOf(chain: Chain | undefined): string[] {
  return (chain?.members ?? []).slice(1).map(({ name, version }) => `${name}@${version.replaceAll('_', '.')}`);
}

/** Program ids by name, including the root. */
export function programIdsOf(chain: Chain | undefined): Record<string, number> {
  return Object.fromEntries((chain?.members ?? []).map(({ name, programId }) => [name, programId]));
}

export function idsOf({ programs, maps, links }: KernelState): Ids {
  return {
    prog: new Set(programs.map(({ id }) => id)),
    map: new Set([...maps.map(({ id }) => id), ...programs.flatMap(({ mapIds }) => mapIds)]),
    link: new Set(links.map(({ id }) => id)),
  };
}

export function without(ids: Ids, others: Ids): Ids {
  const left = (kind: keyof Ids) => new Set([...ids[kind]].filter((id) => !others[kind].has(id)));
  return { prog: left('prog'), map: left('map'), link: left('link') };
}

/** The objects that the kernel still has, as `prog 12`. */
export function surviving(ids: Ids): string[] {
  const kinds = ['prog', 'map', 'link'] as const;
  return kinds.flatMap((kind) => existing(kind, ids[kind]).map((id) => `${kind} ${id}`));
}

/** Id of the program that the kernel runs at an interface's XDP hook, according to `ip`. */
export async function attachedXdp(iface: string): Promise<number | undefined> {
  const { stdout } = await run('ip', ['-json', 'link', 'show', 'dev', iface]);
  const [link] = JSON.parse(stdout) as [{ xdp?: { prog: { id: number } } }];
  return link.xdp?.prog.id;
}

/** The number at a key of a map of numbers; undefined if there is no such map or key. */
export async function numberIn(pin: string, key: Uint8Array = new Uint8Array(4)): Promise<number | undefined> {
  try {
    const entry = await bpftool<RawEntry | null>('map', 'lookup', 'pinned', pin, 'key', ...hexBytes(key));
    return entry === null ? undefined : numberOf(entry.value);
  } catch {
    return undefined;
  }
}

/** How many probes have reached a marker on each path. A path is written as `1-2-3`: see native/bpf/mark.h. */
export async function pathsIn(markPaths: string): Promise<Record<string, number>> {
  const dump = await bpftool<{ key: readonly string[]; value: readonly string[] }[]>(
    'map',
    'dump',
    'pinned',
    markPaths,
  );
  return Object.fromEntries(dump.map(({ key, value }) => [mostSignificantFirst(key).join('-'), numberOf(value)]));
}

/** The markers of a path, one byte each; zeros are unused places. */
function mostSignificantFirst(key: readonly string[]): number[] {
  const bytes = key.map(Number);
  return (endianness() === 'LE' ? bytes.toReversed() : bytes).filter((byte) => byte !== 0);
}

export async function bpftool<Answer>(...args: readonly string[]): Promise<Answer> {
  const { stdout } = await run('bpftool', ['--json', ...args]);
  return JSON.parse(stdout || 'null') as Answer;
}

export function hexBytes(bytes: Uint8Array): string[] {
  return ['hex', ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'))];
}

function numberOf(bytes: readonly string[]): number {
  const ordered = endianness() === 'LE' ? bytes.toReversed() : bytes;
  return ordered.reduce((value, byte) => value * 256 + Number(byte), 0);
}
