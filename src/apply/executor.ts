import { hookKey } from '../domain/hook.js';
import { observedProbes } from '../domain/observed.js';
import { hookOfPin, programPin } from '../domain/pins.js';
import type { Plan } from '../domain/plan.js';
import type { Step } from '../domain/step.js';
import { run, wayBack } from './steps.js';
import type { Tools } from './tools.js';

export type { Companions, Packages, Tools } from './tools.js';

export type ApplyResult =
  | { readonly ok: true; readonly leftovers: readonly Failure[] }
  | {
      readonly ok: false;
      readonly failure: Failure;
      /** Whether every step that had been done was taken back, so that all is as before. */
      readonly undone: boolean;
      /** What went wrong while taking back. */
      readonly leftovers: readonly Failure[];
    };

export interface Failure {
  readonly step: Step;
  readonly error: unknown;
}

/** Told of every step before it runs: for logs, and for tests that let a step fail. */
export type Observer = (step: Step, phase: 'prepare' | 'commit' | 'cleanup' | 'undo') => void | Promise<void>;

/** What a plan has done so far, as the steps that take it back, in the order in which they were done. */
type Done = Record<'prepare' | 'commit' | 'stop' | 'start', Step[]>;

/**
 * Carries a plan out. A failure before the cleanup takes back, in reverse, what had been done, the step that failed included: it may
 * have had its effect. Cleanup lies behind the point of no return and goes on past failures, which come back as `leftovers`.
 *
 * @param rename brings the public names in line with the chains as they stand, before companions are started that look for them, and with
 *   the old generations still pinned; after a failure of it they stay, for the next pass. It is told when a plan is being taken back
 */
export async function apply(
  plan: Plan,
  tools: Tools,
  observer: Observer = () => {},
  rename: (undoing: boolean) => Promise<readonly Failure[]> = async () => [],
): Promise<ApplyResult> {
  const done: Done = { prepare: [], commit: [], stop: [], start: [] };
  let unfinished: readonly Failure[] | undefined;
  for (const phase of ['prepare', 'commit', 'stop', 'start'] as const) {
    if (phase === 'start') unfinished = await rename(false);
    for (const step of plan[phase]) {
      try {
        await observer(step, phase === 'prepare' ? 'prepare' : 'commit');
        done[phase].push(...(await wayBack(step, tools)));
        await run(step, tools);
      } catch (error) {
        const renameBack = unfinished === undefined ? undefined : () => rename(true);
        const leftovers = await takeBack(done, tools, observer, renameBack);
        return { ok: false, failure: { step, error }, undone: leftovers.length === 0, leftovers };
      }
    }
  }
  // Cleanup would make it impossible to finish: a public name is known as ours by the generation that is still pinned.
  if (unfinished !== undefined && unfinished.length > 0) return { ok: true, leftovers: unfinished };
  return { ok: true, leftovers: await runAll(plan.cleanup, tools, observer, 'cleanup') };
}

/**
 * Tries everything of a plan that packets do not notice, the verifier included, and takes it back. No companion is started: what one would
 * load is left out.
 *
 * @returns what failed, if anything did
 */
export async function rehearse({ prepare }: Plan, tools: Tools): Promise<Failure | undefined> {
  const prepared: Step[] = [];
  let failure: Failure | undefined;
  for (const step of withoutStages(prepare)) {
    try {
      prepared.push(...(await wayBack(step, tools)));
      await run(withoutAttaching(step), tools);
    } catch (error) {
      failure = { step, error };
      break;
    }
  }
  const leftovers = await takeBack({ prepare: prepared, commit: [], stop: [], start: [] }, tools, () => {});
  return failure ?? leftovers[0];
}

function withoutStages(prepare: readonly Step[]): readonly Step[] {
  const stages = new Set(prepare.flatMap((step) => (step.op === 'stage' ? [step.dir] : [])));
  if (stages.size === 0) return prepare;
  const isOn = (pin: string | null) => pin !== null && stages.has(pin.slice(0, pin.lastIndexOf('/')));
  return prepare.filter((step) => {
    if (step.op === 'link') return !isOn(step.slot) && !isOn(step.to);
    const isForLoading = step.op === 'publish' || step.op === 'unpublish';
    return !isForLoading && !('dir' in step && stages.has(step.dir));
  });
}

/** Probes are attached where they are loaded, which is more than to try them. */
function withoutAttaching(step: Step): Step {
  if (step.op === 'load') return { ...step, probes: step.probes ?? 'load' };
  return step.op === 'load-probes' ? { ...step, treatment: 'load' } : step;
}

/**
 * Runs steps one after the other whatever happens to each, and returns those that failed. Only a grace period that did not come to its
 * end ends the row: packets may still be inside of what would be unpinned next.
 */
export async function runAll(
  steps: readonly Step[],
  tools: Tools,
  observer: Observer = () => {},
  phase: 'prepare' | 'cleanup' | 'undo' = 'cleanup',
): Promise<Failure[]> {
  const failures: Failure[] = [];
  for (const step of steps) {
    try {
      await observer(step, phase);
      await run(step, tools);
    } catch (error) {
      failures.push({ step, error });
      if (step.op === 'grace') break;
    }
  }
  return failures;
}

/**
 * The companions that were started go first, and those that were stopped come back last, to a chain and to names as they knew them.
 *
 * @returns what could not be taken back
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
  // Packets still pass what could not be taken out, so that nothing is unpinned under them; the next pass starts from there.
  if (stuck.length > 0) return [...stubborn, ...stuck];
  const misnamed = await renameBack();
  const lost = await undo(stop);
  if (misnamed.length > 0) return [...stubborn, ...misnamed, ...lost];
  // Packets may be inside what was committed for a moment, so it is held for a grace period before it is unpinned.
  const grace: Step[] = commit.length > 0 ? [{ op: 'grace' }] : [];
  const proof = await proofOfUndo(prepare, tools);
  const unprepared = await runAll([...grace, ...prepare.toReversed(), ...proof], tools, observer, 'undo');
  return [...stubborn, ...lost, ...unprepared];
}

/** What was loaded has to be gone from the kernel again, but for data maps, which others may have too. */
async function proofOfUndo(steps: readonly Step[], { datapath }: Tools): Promise<Step[]> {
  const dirs = new Set(steps.flatMap((step) => (step.op === 'discard' ? [step.dir] : [])));
  if (dirs.size === 0) return [];
  const observed = await datapath.observe();
  const loaded = observed.hooks.flatMap(({ generations }) => generations).filter(({ dir }) => dirs.has(dir));
  const probes = [...loaded, ...observedProbes(observed).filter(({ dir }) => dirs.has(dir))].flatMap(
    (one) => one.probes ?? [],
  );
  const programs = [...loaded, ...probes].flatMap(({ programId }) => programId ?? []);
  const maps = loaded.flatMap(({ slot }) => slot?.mapId ?? []);
  const links = probes.flatMap(({ linkId }) => linkId ?? []);
  return programs.length === 0 ? [] : [{ op: 'prove', programs, maps, links }];
}

/**
 * What a commit has done at a hook is taken back as far as that goes and no further: each state on the way there was fit for packets,
 * and one with a step missing is not. Other hooks are taken back all the same.
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

function pinOf(step: Step): string {
  switch (step.op) {
    case 'link':
      return step.slot;
    case 'write-map':
      return step.map;
    case 'move-probes':
      return programPin(step.to);
    default:
      return '';
  }
}

/** The hook at which packets may notice a step. */
function placeOf(step: Step): string {
  const hook = 'hook' in step ? step.hook : hookOfPin(pinOf(step));
  return hook === undefined ? '' : hookKey(hook);
}
