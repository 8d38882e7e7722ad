import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Observer } from '../../src/apply/executor.js';
import type { CompanionControl } from '../../src/apply/tools.js';
import type { Datapath } from '../../src/datapath/datapath.js';
import { type DesiredState, NOTHING_DESIRED, normalize, programsAt } from '../../src/domain/desired.js';
import type { ChainHook } from '../../src/domain/hook.js';
import { hookAt, type LoadedProgram, type Observed, standingChain } from '../../src/domain/observed.js';
import { formerMapPath, mapPin, publicMapPath } from '../../src/domain/pins.js';
import { contentDigest } from '../../src/domain/program.js';
import { Host } from '../../src/reconcile/host.js';
import type { Report } from '../../src/reconcile/reconcile.js';
import { createLogger } from '../../src/telemetry/log.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { builtPackages, noCompanions, pathAt, planContext, program, restartPolicy } from '../support/chains.js';
import { DIRECTIONS, type Direction } from '../support/directions.js';
import { alone, type LoneHost } from '../support/in-turn.js';
import { isBetween, linksOf, withoutSlot } from './support-slotless.js';

/*
 * Agents that fail or die at any step of a change at two hooks, and the agents that follow them.
 */

/**
 * A program of a chain: name (see {@link withoutSlot}), version, whether it is enabled, and the number in its map_args.
 */
export type Member = readonly [name: string, version: string, enabled: boolean, mark: number];

/** What fails. `at` is the index of the step or call. Nothing fails if there are fewer. */
export type Mishap =
  | { readonly kind: 'none' }
  /** The step fails, and the agent keeps running. */
  | { readonly kind: 'fails'; readonly at: number }
  /** The agent dies before or after the effect of a call to the datapath. The next agent repairs first, or not. */
  | { readonly kind: 'dies'; readonly at: number; readonly after: boolean; readonly repairs: boolean };

export interface Round {
  readonly chaining: boolean;
  /** Per hook. */
  readonly chains: readonly (readonly Member[])[];
  readonly mishap: Mishap;
}

export interface CrashBed {
  readonly datapath: Datapath;
  readonly bpffs: string;
  readonly hooks: readonly ChainHook[];
  /** None if no program has one. */
  readonly companions?: CompanionControl;
  /** Called after an agent has died, with the directory that it was loading into, if any. */
  readonly tear?: (dir: string) => Promise<void>;
}

/** Calls that change something. Calls that only read do not count. */
const CHANGES = ['load', 'setSlot', 'attach', 'retarget', 'detach', 'writeMap', 'publish', 'unpublish', 'discard'];

class Death extends Error {}

/** A datapath whose user dies at one of its calls: no later call has an effect. */
function mortal(
  datapath: Datapath,
  at: number,
  after: boolean,
): { datapath: Datapath; died: () => boolean; torso: () => string | undefined } {
  let calls = 0;
  let dead = false;
  let torso: string | undefined;
  const proxy = new Proxy(datapath, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        if (dead) throw new Death();
        const fatal = CHANGES.includes(String(name)) && calls++ === at;
        if (fatal && !after) dead = true;
        if (dead) throw new Death();
        const result: unknown = await Reflect.apply(value, target, args);
        if (fatal) {
          dead = true;
          if (name === 'load') torso = (args[0] as { dir: string }).dir;
          throw new Death();
        }
        return result;
      };
    },
  });
  return { datapath: proxy, died: () => dead, torso: () => torso };
}

/** Runs rounds on a host and checks it after each. */
export async function surviveRounds(bed: CrashBed, rounds: readonly Round[]): Promise<void> {
  let before: DesiredState = NOTHING_DESIRED;
  for (const round of rounds) before = (await survive(bed, before, round)).desired;
}

export interface Survived {
  /** The desired state after the round. */
  readonly desired: DesiredState;
  /** Whether the mishap happened: there were enough steps or calls. */
  readonly struck: boolean;
}

export async function survive(bed: CrashBed, before: DesiredState, round: Round): Promise<Survived> {
  const { chaining, mishap } = round;
  const desired = desiredOf(bed, round);
  const watch = watchman(bed, before, desired);
  let struck = false;
  if (mishap.kind === 'dies') {
    const life = mortal(bed.datapath, mishap.at, mishap.after);
    await hostOf(bed, life.datapath, chaining, watch)
      .apply(before, desired, log)
      .catch(() => undefined);
    const torso = life.torso();
    if (torso !== undefined) await bed.tear?.(torso);
    struck = life.died();
    if (struck && mishap.repairs && (chaining || fitsUnchained(before))) {
      await hostOf(bed, bed.datapath, chaining, watch).repair(before, log);
      // Values are not checked: those written into kept maps stay until the command is retried.
      await assertStands(bed, before, { values: false });
    }
  } else if (mishap.kind === 'fails') {
    const phase = await fail(bed, before, desired, round, mishap.at);
    if (phase === 'prepare' || phase === 'commit') return { desired: before, struck: true };
    struck = phase !== undefined;
  }
  const report = await hostOf(bed, bed.datapath, chaining, watch).apply(before, desired, log);
  assert.deepEqual([report.faults, report.leftovers], [[], []]);
  await assertStands(bed, desired);
  const again = await hostOf(bed, bed.datapath, chaining).apply(desired, desired, log);
  assert.equal(again.status, 'unchanged', JSON.stringify(again.outcomes));
  return { desired, struck };
}

/** @returns the phase of the failed step; undefined if there were fewer steps */
async function fail(
  bed: CrashBed,
  before: DesiredState,
  desired: DesiredState,
  { chaining }: Round,
  at: number,
): Promise<string | undefined> {
  const watch = watchman(bed, before, desired);
  let steps = 0;
  let failed: string | undefined;
  const report: Report = await hostOf(bed, bed.datapath, chaining, async (step, phase) => {
    await watch(step, phase);
    if (phase === 'undo' || steps++ !== at) return;
    failed = phase;
    throw new Error('injected');
  }).apply(before, desired, log);
  if (failed === undefined || failed === 'cleanup') {
    assert.notEqual(report.status, 'failed');
    // Nothing was removed, so nothing is proved gone.
    assert.equal(report.leftovers.length > 0, failed !== undefined, report.leftovers.join('\n'));
    return failed;
  }
  assert.equal(report.status, 'failed');
  assert.equal(report.undone, true, report.leftovers.join('\n'));
  await assertStands(bed, before);
  return failed;
}

function fitsUnchained({ chains }: DesiredState): boolean {
  return chains.every(({ programs }) => programs.filter(({ enabled }) => enabled).length <= 1);
}

export const log = createLogger({ level: 'silent', host: 'test' });
export const metrics = new Metrics('test');

export function hostOf(bed: CrashBed, datapath: Datapath, chaining: boolean, observer: Observer = () => {}): LoneHost {
  const tools = { datapath, packages: builtPackages, companions: bed.companions ?? noCompanions };
  return alone(new Host({ tools, context: planContext(bed.bpffs, chaining), metrics, observer, restartPolicy }));
}

/**
 * At every step packets pass the old chain or the new one. If one of them has several links, they pass at least all
 * programs that are in both. Many steps only change names, which do not affect packets.
 */
export function watchman(bed: CrashBed, before: DesiredState, desired: DesiredState): Observer {
  return async ({ op }) => {
    if (op === 'publish' || op === 'unpublish' || op === 'fetch') return;
    const observed = await bed.datapath.observe();
    for (const hook of bed.hooks) {
      const path = JSON.stringify(pathAt(observed, hook));
      const allowed = [before, desired].map((state) => JSON.stringify(wantedPath(state, hook)));
      const isRight = allowed.includes(path) || isBetween(pathAt(observed, hook), before, desired, hook);
      assert.ok(isRight, `${hook.direction}: ${path} is neither of ${allowed.join(' ')}`);
    }
  };
}

export function desiredOf({ hooks }: Pick<CrashBed, 'hooks'>, { chaining, chains }: Round): DesiredState {
  const of = (hook: ChainHook, members: readonly Member[]) => {
    const only = members.findIndex(([, , enabled]) => enabled);
    return members.map(([name, version, enabled, mark], index) => {
      const mapArgs = [{ name: 'mark_id', args: [{ key: 0, value: mark }] }];
      const isEnabled = enabled && (chaining || index === only);
      const overrides = { version, enabled: isEnabled, mapArgs, ...withoutSlot(name, hook) };
      return program(name, index + 1, overrides, hook.direction);
    });
  };
  return normalize({ chains: hooks.map((hook, n) => ({ hook, programs: of(hook, chains[n] ?? []) })), addresses: {} });
}

function wantedPath(desired: DesiredState, hook: ChainHook): string[] | undefined {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.length === 0
    ? undefined
    : running.map(({ name, version }) => `${name}@${version.replaceAll('.', '_')}`);
}

/** Checks for exactly the desired state: paths, map values, pins, links and public names. */
export async function assertStands(bed: CrashBed, desired: DesiredState, { values } = { values: true }): Promise<void> {
  const observed = await bed.datapath.observe();
  for (const hook of bed.hooks) {
    const { attachments, loadedPrograms } = hookAt(observed, hook);
    const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
    assert.deepEqual(pathAt(observed, hook), wantedPath(desired, hook), hook.direction);
    assert.equal(attachments.length, linksOf(desired, hook), 'links');
    const standing = standingChain(hookAt(observed, hook));
    assert.deepEqual(loadedPrograms.map(({ dir }) => dir).toSorted(), standing.map(({ dir }) => dir).toSorted());
    for (const wanted of values ? running : []) {
      const loaded = standing.find(({ digest }) => digest === contentDigest(wanted));
      const value = await bed.datapath.readMap(mapPin(loaded!.dir, 'mark_id'), Buffer.alloc(4));
      assert.equal(Buffer.from(value!).readUInt32LE(), wanted.mapArgs[0]!.args[0]!.value, `map_args of ${wanted.name}`);
    }
  }
  assert.deepEqual(new Map([...observed.publicMaps].toSorted()), namesOf(bed, observed, desired));
}

/** If two hooks share a directory, the first has the name. No interface has two programs with a companion. */
function namesOf({ bpffs }: CrashBed, observed: Observed, desired: DesiredState): Map<string, number> {
  const names = new Map<string, number>();
  const watched = desired.chains.flatMap(({ programs }) => programs.filter(({ companion }) => companion !== undefined));
  const claim = (loaded: LoadedProgram, map: string, id: number) => {
    const path = publicMapPath(bpffs, { ...loaded, version: loaded.versionSegment }, map);
    if (!names.has(path)) names.set(path, id);
    const isWatched = watched.some((program) => contentDigest(program) === loaded.digest);
    if (isWatched && loaded.handedOver === undefined) names.set(formerMapPath(bpffs, loaded.hook, map), id);
  };
  const place = ({ hook }: { hook: ChainHook }) => DIRECTIONS.indexOf(hook.direction as Direction);
  for (const at of observed.hooks.toSorted((a, b) => place(a) - place(b))) {
    for (const loaded of standingChain(at)) {
      for (const { name, id } of loaded.maps) claim(loaded, name, id);
      const { slotMap } = planContext(bpffs).roots[at.hook.direction];
      const slot = loaded.digest === '0'.repeat(16) ? slotMap : 'mark_next';
      if (loaded.slot !== undefined) claim(loaded, slot, loaded.slot.mapId);
    }
  }
  return new Map([...names].toSorted());
}

/** Changes of every kind, each from the first state to the second. */
export const TRANSITIONS: Readonly<Record<string, readonly [from: readonly Member[], to: readonly Member[]]>> = {
  'a first deploy': [[], of('abc')],
  'a removal of all': [of('abc'), []],
  'an insertion at the head': [of('bc'), of('abc')],
  'an insertion in the middle': [of('ac'), of('abc')],
  'an addition at the tail': [of('ab'), of('abc')],
  'a removal of the head': [of('abc'), of('bc')],
  'a removal in the middle': [of('abc'), of('ac')],
  'a removal of the tail': [of('abc'), of('ab')],
  'a reorder': [of('abcd'), of('dbca')],
  'a new version': [of('abc'), [m('a'), m('b', '2.0'), m('c')]],
  'a disabling': [of('abc'), [m('a'), ['b', '1.0', false, 1], m('c')]],
  'a change of values': [
    of('ab'),
    [
      ['a', '1.0', true, 7],
      ['b', '1.0', true, 8],
    ],
  ],
  'everything at once': [of('abcd'), [m('e'), ['c', '1.0', true, 9], m('a', '2.0'), m('b')]],
};

export function m(name: string, version = '1.0'): Member {
  return [name, version, true, 1];
}

export function of(names: string): Member[] {
  return [...names].map((name) => m(name));
}

const member = fc.tuple(
  fc.constantFrom('a', 'b', 'c', 'd', 'e', 'x', 'y'),
  // Two versions share a path segment.
  fc.constantFrom('1.0', '1_0', '2.0'),
  fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  fc.integer({ min: 1, max: 3 }),
);
const chain = fc.uniqueArray(member, { selector: ([name]) => name, maxLength: 5 });

export function roundArbitrary(hooks: number): fc.Arbitrary<Round> {
  return fc.record({
    chaining: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
    chains: fc.array(chain, { minLength: hooks, maxLength: hooks }),
    mishap: fc.oneof(
      fc.record({ kind: fc.constant('none' as const) }),
      fc.record({ kind: fc.constant('fails' as const), at: fc.nat(40) }),
      fc.record({ kind: fc.constant('dies' as const), at: fc.nat(40), after: fc.boolean(), repairs: fc.boolean() }),
    ),
  });
}
