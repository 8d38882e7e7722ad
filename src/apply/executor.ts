import type { Datapath } from '../datapath/datapath.js';
import type { PackageRef } from '../domain/program.js';
import type { LoadStep, Plan, Step } from '../domain/step.js';

/** What steps act through. */
export interface Tools {
  readonly datapath: Datapath;
  readonly packages: Packages;
}

/** The package cache, as far as steps need it. */
export interface Packages {
  /** Has the package unpacked on disk, fetching it where needed. */
  ensure(ref: PackageRef): Promise<unknown>;
  /** Path of an object file in a package. */
  objectPath(ref: PackageRef, objectFile: string): Promise<string>;
}

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

/**
 * Carries a plan out. A failure in prepare or commit takes back, in reverse, what had been done; cleanup lies behind the point of no
 * return and goes on past failures, which come back as `leftovers`.
 *
 * @param beforeCleanup runs between commit and cleanup, with the old generations still pinned; after a failure of it they stay, for
 *   the next pass
 */
export async function apply(
  plan: Plan,
  tools: Tools,
  observer: Observer = () => {},
  beforeCleanup: () => Promise<readonly Failure[]> = async () => [],
): Promise<ApplyResult> {
  const prepared: Step[] = [];
  const committed: Step[] = [];
  for (const phase of ['prepare', 'commit'] as const) {
    const done = phase === 'prepare' ? prepared : committed;
    for (const step of plan[phase]) {
      try {
        await observer(step, phase);
        done.push(...(await run(step, tools)));
      } catch (error) {
        const leftovers = await takeBack(prepared, committed, tools, observer);
        return { ok: false, failure: { step, error }, undone: leftovers.length === 0, leftovers };
      }
    }
  }
  const unfinished = await beforeCleanup();
  // Cleanup would make it impossible to finish: a public name is known as ours by the generation that is still pinned.
  if (unfinished.length > 0) return { ok: true, leftovers: unfinished };
  return { ok: true, leftovers: await runAll(plan.cleanup, tools, observer, 'cleanup') };
}

/**
 * Tries everything of a plan that packets do not notice, the verifier included, and takes it back.
 *
 * @returns what failed, if anything did
 */
export async function rehearse({ prepare }: Plan, tools: Tools): Promise<Failure | undefined> {
  const prepared: Step[] = [];
  let failure: Failure | undefined;
  for (const step of prepare) {
    try {
      prepared.push(...(await run(step, tools)));
    } catch (error) {
      failure = { step, error };
      break;
    }
  }
  const leftovers = await takeBack(prepared, [], tools, () => {});
  return failure ?? leftovers[0];
}

/** Runs steps one after the other whatever happens to each, and returns those that failed. */
export async function runAll(
  steps: readonly Step[],
  tools: Tools,
  observer: Observer = () => {},
  phase: 'cleanup' | 'undo' = 'cleanup',
): Promise<Failure[]> {
  const failures: Failure[] = [];
  for (const step of steps) {
    try {
      await observer(step, phase);
      await run(step, tools);
    } catch (error) {
      failures.push({ step, error });
    }
  }
  return failures;
}

/** @returns what could not be taken back */
async function takeBack(
  prepared: readonly Step[],
  committed: readonly Step[],
  tools: Tools,
  observer: Observer,
): Promise<Failure[]> {
  const stuck = await runAll(committed.toReversed(), tools, observer, 'undo');
  // Packets still pass what could not be taken out, so that nothing is unpinned under them; the next pass starts from there.
  if (stuck.length > 0) return stuck;
  // Packets may be inside what was committed for a moment, so it is held for a grace period before it is unpinned.
  const grace: Step[] = committed.length > 0 ? [{ op: 'grace' }] : [];
  return runAll([...grace, ...prepared.toReversed()], tools, observer, 'undo');
}

/** Does one step and returns the steps that take it back. */
type Executor<S extends Step> = (step: S, tools: Tools) => Promise<readonly Step[]>;

/** One executor per kind of step: a kind without one does not compile. */
const EXECUTORS: { readonly [Op in Step['op']]: Executor<Extract<Step, { op: Op }>> } = {
  async fetch(step, { packages }) {
    await packages.ensure(step.package);
    return [];
  },

  async load(step, { datapath, packages }) {
    const { hook } = step.generation;
    const { entryFunction, slotMap } = step.source;
    const objectPath = await objectPathOf(step, packages);
    const { dir, share, fill } = step;
    await datapath.load({ hook, dir, objectPath, entryFunction, slotMap, share, fill });
    return [{ op: 'discard', dir, programId: undefined }];
  },

  async link(step, { datapath }) {
    await datapath.setSlot(step.slot, step.to);
    // A slot that no packet reaches goes with its generation.
    return step.live ? [{ ...step, from: step.to, to: step.from }] : [];
  },

  async attach(step, { datapath }) {
    await datapath.attach(step.hook, step.program, step.link);
    return [{ ...step, op: 'detach' }];
  },

  async detach(step, { datapath }) {
    await datapath.detach(step.hook, step.link);
    return step.program === '' ? [] : [{ ...step, op: 'attach' }];
  },

  async retarget(step, { datapath }) {
    await datapath.retarget(step.hook, step.from, step.to);
    return [{ ...step, from: step.to, to: step.from }];
  },

  async 'write-map'(step, { datapath }) {
    const inverse = await datapath.writeMap(step.map, { set: step.set, remove: step.remove });
    return [{ op: 'write-map', map: step.map, ...inverse }];
  },

  async publish(step, { datapath }) {
    await datapath.publish(step.pin, step.path);
    return [];
  },

  async unpublish(step, { datapath }) {
    await datapath.unpublish(step.path);
    return [];
  },

  async grace(_step, { datapath }) {
    await datapath.grace();
    return [];
  },

  async discard(step, { datapath }) {
    await datapath.discard(step.dir, step.programId);
    return [];
  },
};

function run(step: Step, tools: Tools): Promise<readonly Step[]> {
  return (EXECUTORS[step.op] as Executor<Step>)(step, tools);
}

async function objectPathOf(step: LoadStep, packages: Packages): Promise<string> {
  const { source } = step;
  return source.kind === 'builtin' ? source.objectPath : packages.objectPath(source.package, source.objectFile);
}
