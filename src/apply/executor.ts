import PQueue from 'p-queue';
import { hookKey } from '../domain/hook.js';
import { observedProbes } from '../domain/observed.js';
import type { Plan } from '../steps/plan.js';
import type { Step } from '../steps/step.js';
import { endedBy, traitsOf, undoOf } from '../steps/traits.js';
import { run } from './steps.js';
import type { Tools } from './tools.js';

export type { CompanionControl, Packages, Tools } from './tools.js';

export type ApplyResult =
  | {
      readonly ok: true;
      /** What came up that people should know, each sentence once. */
      readonly notes: readonly string[];
      readonly leftovers: readonly Failure[];
    }
  | {
      readonly ok: false;
      readonly failure: Failure;
      /** Whether every completed step was rolled back, so that everything is as before. */
      readonly undone: boolean;
      /** What failed during the rollback. */
      readonly leftovers: readonly Failure[];
    };

export interface Failure {
  readonly step: Step;
  readonly error: unknown;
}

/** So that many companions do not take all of a host at once. */
const COMPANIONS_AT_A_TIME = 16;

/** Called before each step: for logs, and for tests that make a step fail. */
export type Observer = (step: Step, phase: 'prepare' | 'commit' | 'cleanup' | 'undo') => void | Promise<void>;

/** The steps that roll back what a plan has done so far, in the order in which it was done. */
type Done = Record<'prepare' | 'commit' | 'stop' | 'start', Step[]>;

/**
 * Applies a plan. After a failure before the cleanup, all steps are rolled back in reverse order. This includes the
 * failed step, because it may have had its effect. The cleanup is after the point of no return. It continues after
 * failures and returns them as `leftovers`.
 *
 * @param rename brings the public names in line with the standing chains. It runs before companions start, because they
 *   look for these names, and while the old programs are still pinned. If it fails, they stay for the next
 *   pass. Its argument tells whether the plan is being rolled back
 */
export async function apply(
  plan: Plan,
  tools: Tools,
  observer: Observer = () => {},
  rename: (undoing: boolean) => Promise<readonly Failure[]> = async () => [],
): Promise<ApplyResult> {
  const done: Done = { prepare: [], commit: [], stop: [], start: [] };
  const notes = new Set<string>();
  let unfinished: readonly Failure[] | undefined;
  const fail = async (failure: Failure): Promise<ApplyResult> => {
    const renameBack = unfinished === undefined ? undefined : () => rename(true);
    const leftovers = await takeBack(done, tools, observer, renameBack);
    return { ok: false, failure, undone: leftovers.length === 0, leftovers };
  };
  const perform = async (step: Step, phase: keyof Done): Promise<Failure | undefined> => {
    try {
      await observer(step, phase === 'prepare' ? 'prepare' : 'commit');
      done[phase].push(...(await undoOf(step, tools.datapath)));
      await run(step, tools, (note) => notes.add(note));
      return undefined;
    } catch (error) {
      return { step, error };
    }
  };
  for (const phase of ['prepare', 'commit', 'stop'] as const) {
    for (const step of plan[phase]) {
      const failure = await perform(step, phase);
      if (failure !== undefined) return fail(failure);
    }
  }
  unfinished = await rename(false);
  // Companions depend on the chain, not on each other, and each takes a while until it counts as started.
  const starting = new PQueue({ concurrency: COMPANIONS_AT_A_TIME });
  const [failure] = (await starting.addAll(plan.start.map((step) => () => perform(step, 'start')))).filter(
    (result) => result !== undefined,
  );
  if (failure !== undefined) return fail(failure);
  // No cleanup now, or the names could never be finished: a public name is recognised as ours by the load that is
  // still pinned.
  if (unfinished.length > 0) return { ok: true, notes: [...notes], leftovers: unfinished };
  return { ok: true, notes: [...notes], leftovers: await runAll(plan.cleanup, tools, observer, 'cleanup') };
}

/**
 * Tries everything in a plan that packets do not notice, including the verifier, and rolls it back. No companion is
 * started, so programs that companions load are left out.
 *
 * @returns the failed step, if any, and what came up that people should know
 */
export async function rehearse(
  { prepare }: Plan,
  tools: Tools,
): Promise<{ readonly failure: Failure | undefined; readonly notes: readonly string[] }> {
  const prepared: Step[] = [];
  const notes = new Set<string>();
  let failure: Failure | undefined;
  for (const step of rehearsalOf(prepare)) {
    try {
      prepared.push(...(await undoOf(step, tools.datapath)));
      await run(step, tools, (note) => notes.add(note));
    } catch (error) {
      failure = { step, error };
      break;
    }
  }
  const leftovers = await takeBack({ prepare: prepared, commit: [], stop: [], start: [] }, tools, () => {});
  return { failure: failure ?? leftovers[0], notes: [...notes] };
}

/** The steps that can be tried. A step is left out if it uses what a left-out step would make. */
function rehearsalOf(steps: readonly Step[]): Step[] {
  const missing = new Set<string>();
  return steps.flatMap((step) => {
    const { rehearsal, pins } = traitsOf(step);
    const lacks = pins.uses.some((pin) => [...missing].some((made) => pin === made || pin.startsWith(`${made}/`)));
    if (rehearsal !== undefined && !lacks) return [rehearsal];
    for (const made of pins.makes) missing.add(made);
    return [];
  });
}

/**
 * Runs steps in their order, even after failures, and returns the failed ones. Neighbours that may overlap run at the same
 * time. Only a failed grace period ends the sequence: packets may still be inside the programs that would be unpinned
 * next.
 */
export async function runAll(
  steps: readonly Step[],
  tools: Tools,
  observer: Observer = () => {},
  phase: 'prepare' | 'cleanup' | 'undo' = 'cleanup',
): Promise<Failure[]> {
  const attempt = async (step: Step): Promise<Failure | undefined> => {
    try {
      await observer(step, phase);
      await run(step, tools);
      return undefined;
    } catch (error) {
      return { step, error };
    }
  };
  const failures: Failure[] = [];
  for (const group of overlapping(steps)) {
    const failed = (await Promise.all(group.map(attempt))).filter((failure) => failure !== undefined);
    failures.push(...failed);
    if (failed.some(({ step }) => step.op === 'grace')) break;
  }
  return failures;
}

/** The steps in groups, in their order: neighbours that may overlap are one group, any other step is one by itself. */
function overlapping(steps: readonly Step[]): readonly (readonly Step[])[] {
  const groups: Step[][] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    const joins = last?.every((other) => traitsOf(other).overlaps) === true && traitsOf(step).overlaps;
    if (joins) last.push(step);
    else groups.push([step]);
  }
  return groups;
}

/**
 * Rolls back. Started companions are stopped first. Stopped companions are started last, when the chain and the names
 * are as before.
 *
 * @returns what could not be rolled back
 */
async function takeBack(
  { prepare, commit, stop, start }: Done,
  tools: Tools,
  observer: Observer,
  renameBack: () => Promise<readonly Failure[]> = async () => [],
): Promise<Failure[]> {
  const undo = (steps: readonly Step[]) => runAll(steps.toReversed(), tools, observer, 'undo');
  const stubborn = await undo(start);
  const stuck = await undoByHook(commit, tools, observer);
  // Packets still pass what could not be removed. So nothing is unpinned, and the next pass starts from this state.
  if (stuck.length > 0) return [...stubborn, ...stuck];
  const misnamed = await renameBack();
  const lost = await undo(stop);
  if (misnamed.length > 0) return [...stubborn, ...misnamed, ...lost];
  // Packets may still be inside what was committed for a moment. So there is a grace period before it is unpinned.
  const grace: Step[] = commit.length > 0 ? [{ op: 'grace' }] : [];
  const proof = await proofOfUndo(prepare, tools);
  const unprepared = await runAll([...grace, ...prepare.toReversed(), ...proof], tools, observer, 'undo');
  return [...stubborn, ...lost, ...unprepared];
}

/**
 * The step that checks that loaded programs are gone from the kernel again. Data maps are left out, because others may
 * use them too.
 */
async function proofOfUndo(steps: readonly Step[], { datapath }: Tools): Promise<Step[]> {
  const dirs = endedBy(steps);
  if (dirs.size === 0) return [];
  const observed = await datapath.observe();
  const loaded = observed.hooks.flatMap(({ loadedPrograms }) => loadedPrograms).filter(({ dir }) => dirs.has(dir));
  const probes = [...loaded, ...observedProbes(observed).filter(({ dir }) => dirs.has(dir))].flatMap(
    (one) => one.probes ?? [],
  );
  const programs = [...loaded, ...probes].flatMap(({ programId }) => programId ?? []);
  const maps = loaded.flatMap(({ slot }) => slot?.mapId ?? []);
  const links = probes.flatMap(({ linkId }) => linkId ?? []);
  return programs.length === 0 ? [] : [{ op: 'prove', programs, maps, links }];
}

/**
 * Rolls back the commit at each hook until a step fails there. Each state on the way was safe for packets; a state with
 * one step left out may not be. Other hooks are still rolled back.
 */
async function undoByHook(commit: readonly Step[], tools: Tools, observer: Observer): Promise<Failure[]> {
  const failures: Failure[] = [];
  const stuck = new Set<string>();
  for (const step of commit.toReversed()) {
    const place = placeOf(step);
    if (stuck.has(place)) continue;
    const failed = await runAll([step], tools, observer, 'undo');
    if (failed.length > 0) stuck.add(place);
    failures.push(...failed);
  }
  return failures;
}

/** The hook at which packets may notice a step. */
function placeOf(step: Step): string {
  const { hook } = traitsOf(step);
  return hook === undefined ? '' : hookKey(hook);
}
