import assert from 'node:assert/strict';
import type { Observer, Packages, Tools } from '../../src/apply/executor.js';
import type { CompanionControl } from '../../src/apply/tools.js';
import { answerReported } from '../../src/commands/answer.js';
import type { Datapath } from '../../src/datapath/datapath.js';
import { type DesiredState, programsAt } from '../../src/domain/desired.js';
import { isArrayKind } from '../../src/domain/map-types.js';
import { encodeMapArgs } from '../../src/domain/mapvalue.js';
import { hookAt, standingChain } from '../../src/domain/observed.js';
import { mapPin } from '../../src/domain/pins.js';
import { contentDigest, isSelfLoaded } from '../../src/domain/program.js';
import { AgentError } from '../../src/errors.js';
import type { Acknowledgement } from '../../src/messages/ack.js';
import { Host } from '../../src/reconcile/host.js';
import type { Report } from '../../src/reconcile/reconcile.js';
import type { Step } from '../../src/steps/step.js';
import { builtPackages, noCompanions, planContext, restartPolicy } from '../support/chains.js';
import { alone, type LoneHost } from '../support/in-turn.js';
import { assertStands, type CrashBed, log, metrics, watchman } from './support-crash.js';

/*
 * A host whose operations fail, one at a time: load, link, attach, write, name, unload, and fetch. An operation may
 * fail before its effect, or after it.
 */

/** When an operation fails. */
export interface Fault {
  /** Index of the operation, starting at 0. */
  readonly at: number;
  /** Whether the operation fails after its effect. */
  readonly done: boolean;
  readonly transient?: boolean;
  /** A second fault: index of the operation, counted after the first fault. */
  readonly second?: { readonly at: number; readonly done: boolean };
}

export interface Transition {
  readonly chaining: boolean;
  readonly before: DesiredState;
  readonly desired: DesiredState;
}

/** Operations of the datapath that can fail. Those that only read are not included. */
const OPERATIONS: readonly string[] = [
  'load',
  'makeHandover',
  'capture',
  'repin',
  'setSlot',
  'attach',
  'retarget',
  'detach',
  'inverseOf',
  'writeMap',
  'publish',
  'unpublish',
  'grace',
  'discard',
  'proveGone',
] satisfies (keyof Datapath)[];

const COMPANIONS: readonly string[] = ['start', 'stop', 'update'] satisfies (keyof CompanionControl)[];

const FETCHING: readonly string[] = ['ensure', 'objectPath'] satisfies (keyof Packages)[];

const UNNOTICED: ReadonlySet<Step['op']> = new Set(['load', 'make-handover', 'write-map', 'grace', 'prove']);

/** Tools whose operations fail as configured. */
function faulty(tools: Tools, { at, done, transient = false, second }: Fault): { tools: Tools; struck: () => number } {
  let count = 0;
  let struck = 0;
  const failing = <T extends object>(target: T, operations: readonly string[]): T =>
    new Proxy(target, {
      get(_target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          const call = () => Promise.resolve(Reflect.apply(value, target, args));
          if (!operations.includes(String(name))) return call();
          const again = second !== undefined && count === at + 1 + second.at;
          const [fails, effect] = [count === at || again, again ? second.done : done];
          count += 1;
          if (!fails) return call();
          struck += 1;
          if (effect) await call();
          throw new AgentError('KERNEL', `injected into ${String(name)}`, { transient });
        };
      },
    });
  return {
    tools: {
      datapath: failing(tools.datapath, OPERATIONS),
      packages: failing(tools.packages, FETCHING),
      companions: failing(tools.companions, COMPANIONS),
    },
    struck: () => struck,
  };
}

export interface Outcome {
  readonly report: Report;
  readonly answer: Acknowledgement;
  /** How many of the faults happened. */
  readonly struck: number;
  /** The host after the faults. Nothing fails on it any more. */
  readonly host: LoneHost;
}

/**
 * Runs a transition with faults, and checks at every step which programs packets pass.
 *
 * @param deadline until when transient faults are retried, in milliseconds since the epoch; by default no retries
 */
export async function failing(
  bed: CrashBed,
  { chaining, before, desired }: Transition,
  fault: Fault,
  deadline = 0,
): Promise<Outcome> {
  const whole = { datapath: bed.datapath, packages: builtPackages, companions: bed.companions ?? noCompanions };
  const faults = faulty(whole, fault);
  let tools = faults.tools;
  const current = new Proxy({} as Tools, { get: (_target, name) => Reflect.get(tools, name) });
  const watch = watchman(bed, before, desired);
  // The effects of these operations, if any, are checked at the next step.
  const observer: Observer = (step, phase) => (UNNOTICED.has(step.op) ? undefined : watch(step, phase));
  const host = alone(
    new Host({
      tools: current,
      context: planContext(bed.bpffs, chaining),
      metrics,
      observer,
      restartPolicy,
    }),
  );
  const report = await host.apply(before, desired, log, { deadline });
  tools = whole;
  const delivery = { id: 'c1', verb: 'deploy', seq: 1 };
  const receipt = { host: 'web1', delivery, gen: undefined, receivedAt: new Date() };
  const answer = answerReported(receipt, { verb: 'deploy', ...desired }, report);
  return { report, answer, struck: faults.struck(), host };
}

/**
 * After one fault the chains are as before or as desired, with everything that belongs to them, and the answer says
 * which. The next repair removes leftovers.
 *
 * @returns the state that the host has now
 */
export async function assertOldOrNew(bed: CrashBed, transition: Transition, outcome: Outcome): Promise<DesiredState> {
  const { before, desired } = transition;
  const { report, answer, host } = outcome;
  if (answer.status === 'failed') {
    assert.deepEqual([answer.undone, answer.code, report.leftovers], [true, 'KERNEL', []]);
    assert.match(answer.message ?? '', /injected/);
    await assertAllStands(bed, before, desired);
    assert.deepEqual((await host.repair(before, log)).done, [], 'the next look finds nothing to do');
    return before;
  }
  assert.equal(answer.status, 'applied');
  const named = report.leftovers.length > 0;
  assert.equal(
    answer.message?.includes('injected') ?? false,
    named,
    `the answer names what is left: ${answer.message}`,
  );
  assert.equal(named, outcome.struck > 0, report.leftovers.join('\n'));
  await host.repair(desired, log);
  await assertAllStands(bed, desired, before);
  assert.deepEqual((await host.repair(desired, log)).done, [], 'the look after the next finds nothing to do');
  return desired;
}

/**
 * After a second fault during the roll-back of the first, the answer says that the roll-back failed and what is left.
 * The next repair restores the old state.
 */
export async function assertHealed(bed: CrashBed, { before, desired }: Transition, outcome: Outcome): Promise<void> {
  const { report, answer, host } = outcome;
  assert.deepEqual([answer.status, answer.undone], ['failed', report.leftovers.length === 0]);
  const left = answer.errors.filter(({ code }) => code === 'LEFTOVER');
  assert.equal(left.length, report.leftovers.length);
  if (answer.undone === true) await assertAllStands(bed, before, desired);
  else assert.match(left[0]?.message ?? '', /injected/);
  await host.repair(before, log);
  await assertAllStands(bed, before, desired);
  assert.deepEqual((await host.repair(before, log)).done, [], 'the look after the next finds nothing to do');
}

/** Checks for exactly the desired state, and nothing of the other state, not even in maps. */
async function assertAllStands(bed: CrashBed, desired: DesiredState, other: DesiredState): Promise<void> {
  await assertStands(bed, desired);
  await assertCompanions(bed, desired);
  const observed = await bed.datapath.observe();
  for (const hook of bed.hooks) {
    for (const wanted of programsAt(desired, hook).filter(({ enabled }) => enabled)) {
      const loaded = standingChain(hookAt(observed, hook)).find(({ digest }) => digest === contentDigest(wanted))!;
      const stranger = programsAt(other, hook).find((program) => contentDigest(program) === contentDigest(wanted));
      for (const map of loaded.maps) {
        const entriesOf = (args = wanted.mapArgs) =>
          args.filter(({ name }) => name === map.name).flatMap((entries) => encodeMapArgs(map, entries, ''));
        const expected = new Map(entriesOf().map(({ key, value }) => [key, value]));
        for (const { key } of [...entriesOf(), ...entriesOf(stranger?.mapArgs ?? [])]) {
          if (!expected.has(key) && isArrayKind(map.type)) continue;
          const value = await bed.datapath.readMap(mapPin(loaded.dir, map.name), Buffer.from(key, 'hex'));
          const found = value === undefined ? undefined : Buffer.from(value).toString('hex');
          assert.equal(found, expected.get(key), `${map.name} of ${wanted.name} under ${key}`);
        }
      }
    }
  }
}

/**
 * Checks that each program has exactly one companion, the right one for its current loaded program, and that there are
 * no others.
 */
export async function assertCompanions(
  { companions, datapath, hooks }: CrashBed,
  desired: DesiredState,
): Promise<void> {
  if (companions === undefined) return;
  const observed = await datapath.observe();
  const expected = hooks.flatMap((hook) =>
    programsAt(desired, hook).flatMap((wanted) => {
      const { name, version, companion, enabled } = wanted;
      if (companion === undefined || !enabled) return [];
      const standing = standingChain(hookAt(observed, hook)).find(({ digest }) => digest === contentDigest(wanted));
      return [{ hook, name, version, companion, loaded: isSelfLoaded(wanted) ? standing?.dir : undefined }];
    }),
  );
  const found = (await companions.observe()).map(({ launch, loaded }) => {
    const { name, version } = launch.package;
    return { hook: launch.hook, name, version, companion: launch.companion, loaded };
  });
  const sorted = (all: readonly { readonly name: string }[]) => all.toSorted((a, b) => a.name.localeCompare(b.name));
  assert.deepEqual(sorted(found), sorted(expected));
}
