import assert from 'node:assert/strict';
import type { Datapath, LoadRequest } from '../../src/datapath/datapath.js';
import { ATTACH_POINTS } from '../../src/domain/attach-points/registry.js';
import { type AttachPointName, type ChainHook, hookOf } from '../../src/domain/hook.js';
import { hookAt, type LoadedProgram } from '../../src/domain/observed.js';
import { linkPin, loadDir, mapPin, programPin, publicMapPath, slotPin } from '../../src/domain/pins.js';
import { AgentError, type ErrorCode } from '../../src/errors.js';
import { builtObject } from '../support/project.js';

/*
 * The programs of native/bpf, as tests of a datapath load them.
 */

export interface Fixture {
  readonly datapath: Datapath;
  readonly bpffs: string;
  /** An interface that exists and has nothing attached to its hooks. */
  readonly iface: string;
  /** Path of a control group with nothing attached to its hooks. */
  readonly cgroup: string;
  close(): Promise<void>;
}

/** A program of native/bpf. */
export interface Sample {
  readonly object: string;
  readonly entryFunction: string;
  readonly slotMap: string;
}

export const XDP_ROOT: Sample = { object: 'xdp_root', entryFunction: 'xdp_root', slotMap: 'xdp_root_array' };
export const PORT_COUNT: Sample = { object: 'port_count', entryFunction: 'xdp_port_count', slotMap: 'port_count_next' };
export const PORT_DROP: Sample = { object: 'port_drop', entryFunction: 'xdp_port_drop', slotMap: 'port_drop_next' };
export const POLICY: Sample = { object: 'policy', entryFunction: 'xdp_policy', slotMap: 'policy_next' };
export const TC_COUNT: Sample = { object: 'tc_count', entryFunction: 'tc_count', slotMap: 'tc_count_next' };
export const TC_SWITCH: Sample = { object: 'tc_switch', entryFunction: 'tc_switch', slotMap: 'tc_switch_next' };
export const TC_TAIL: Sample = { object: 'tc_tail', entryFunction: 'tc_tail', slotMap: '' };
export const SKB_COUNT: Sample = { object: 'skb_count', entryFunction: 'skb_count', slotMap: 'skb_count_next' };
export const SKB_DROP: Sample = { object: 'skb_drop', entryFunction: 'skb_drop', slotMap: 'skb_drop_next' };
export const BROKEN: Sample = { object: 'broken', entryFunction: 'xdp_broken', slotMap: 'broken_next' };

export function tcRoot(direction: 'ingress' | 'egress'): Sample {
  return { object: 'tc_root', entryFunction: `tc_${direction}_root`, slotMap: `tc_${direction}_root_array` };
}

/** The root of the chains at an attach point. */
export function rootSample(direction: AttachPointName): Sample {
  return ATTACH_POINTS[direction].root;
}

/** A program that a test has loaded. */
export interface Loaded {
  readonly hook: ChainHook;
  readonly dir: string;
  readonly program: string;
  readonly slot: string;
  /** Where its link is pinned while it is the attached program. */
  readonly link: string;
  map(name: string): string;
  publicPath(map: string): string;
}

let lastSerial = 0;

/** A request for a program that has never been loaded before. */
export function requestFor(
  fixture: Fixture,
  sample: Sample,
  direction: AttachPointName,
  changes: Partial<LoadRequest> = {},
): LoadRequest {
  lastSerial += 1;
  const hook = hookOf(ATTACH_POINTS[direction].target === 'cgroup' ? fixture.cgroup : fixture.iface, direction);
  const ref = { hook, name: sample.object, version: '1.0', digest: '0123456789abcdef', serial: lastSerial };
  return {
    hook,
    dir: loadDir(fixture.bpffs, ref),
    objectPath: builtObject(sample.object),
    entryFunction: sample.entryFunction,
    slotMap: sample.slotMap,
    share: [],
    fill: [],
    ...changes,
  };
}

export async function load(
  fixture: Fixture,
  sample: Sample,
  direction: AttachPointName,
  changes: Partial<LoadRequest> = {},
): Promise<Loaded> {
  const request = requestFor(fixture, sample, direction, changes);
  await fixture.datapath.load(request);
  const { hook, dir } = request;
  const named = { hook, name: sample.object, version: '1.0' };
  return {
    hook,
    dir,
    program: programPin(dir),
    slot: slotPin(dir),
    link: linkPin(fixture.bpffs, named),
    map: (name) => mapPin(dir, name),
    publicPath: (map) => publicMapPath(fixture.bpffs, named, map),
  };
}

/** The present observation of the loaded program in a directory. */
export async function observed(
  fixture: Fixture,
  loaded: Pick<Loaded, 'dir' | 'hook'>,
): Promise<LoadedProgram | undefined> {
  const { loadedPrograms } = hookAt(await fixture.datapath.observe(), loaded.hook);
  return loadedPrograms.find(({ dir }) => dir === loaded.dir);
}

export async function programId(fixture: Fixture, loaded: Loaded): Promise<number> {
  const id = (await observed(fixture, loaded))?.programId;
  assert.ok(id !== undefined, `no program is pinned in ${loaded.dir}`);
  return id;
}

export async function discard(fixture: Fixture, ...loadedPrograms: Loaded[]): Promise<void> {
  const ids = await Promise.all(loadedPrograms.map(async (ref) => (await observed(fixture, ref))?.programId));
  for (const { dir } of loadedPrograms) await fixture.datapath.discard(dir);
  await fixture.datapath.proveGone({ programs: ids.filter((id) => id !== undefined), maps: [], links: [] });
}

/** Asserts that a call is refused with a code, and with words in message or detail that help a person. */
export async function refused(
  call: Promise<unknown>,
  code: ErrorCode,
  ...words: (string | RegExp)[]
): Promise<AgentError> {
  const error = await call.then(
    () => assert.fail(`expected ${code}, but the call went through`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof AgentError, String(error));
  assert.equal(error.code, code, error.message);
  const said = `${error.message}\n${error.detail ?? ''}`;
  for (const word of words) assert.ok(typeof word === 'string' ? said.includes(word) : word.test(said), said);
  return error;
}

/** Asserts that nothing of ours is left. */
export async function assertEmpty({ datapath }: Fixture): Promise<void> {
  const { hooks, publicMaps } = await datapath.observe();
  assert.deepEqual({ hooks, publicMaps: [...publicMaps] }, { hooks: [], publicMaps: [] });
}

export const KEY_0 = Buffer.alloc(4);

export function u16(value: number): string {
  return u64(value).slice(0, 4);
}

export function u64(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.toString('hex');
}
