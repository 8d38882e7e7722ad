import { apply, type Failure, type Observer, runAll, type Tools } from './apply/executor.js';
import { type CompanionLaunch, companionKey } from './domain/companion.js';
import { type DesiredState, desiredPlaces, programsAt } from './domain/desired.js';
import { type Hook, type NoHook, sameHook } from './domain/hook.js';
import { type Generation, hookAt, type Observed, observedProbes, standingChain } from './domain/observed.js';
import type { Plan, ProgramOutcome } from './domain/plan.js';
import { contentDigest, type PackageRef, type Program } from './domain/program.js';
import type { Step } from './domain/step.js';
import { AgentError, type Fault, faultsOf } from './errors.js';
import type { PlanContext, Revival } from './plan/context.js';
import { describeStep } from './plan/describe.js';
import { findingsOf, nameFindings } from './plan/findings.js';
import { type Naming, planNames } from './plan/names.js';
import { planPins } from './plan/pins.js';
import { isEmpty, plan } from './plan/plan.js';
import { waitingOutcomes } from './plan/waiting.js';

/** What became of one program, with what the kernel says of it afterwards. */
export interface ReportedOutcome extends ProgramOutcome {
  readonly programId: number | undefined;
  readonly message?: string;
}

export interface Report {
  readonly status: 'applied' | 'unchanged' | 'failed';
  readonly outcomes: readonly ReportedOutcome[];
  /** What was not as it is desired, in sentences. */
  readonly found: readonly string[];
  /** For each hook that changed, how and why so. */
  readonly reasons: readonly string[];
  /** Why it failed; empty otherwise. */
  readonly faults: readonly Fault[];
  /** The error behind it, with all that is known of it; for the log. */
  readonly cause?: unknown;
  /** The program that it failed for, as `companionKey` names its companion. */
  readonly culprit?: string;
  /** After a failure: whether all is as it was before. */
  readonly undone: boolean | undefined;
  /** What could not be cleaned up, in words; the next reconcile tries again. */
  readonly leftovers: readonly string[];
  /** True where the same attempt may succeed later. */
  readonly transient: boolean;
  /** What the kernel says now. */
  readonly observed: Observed;
}

export interface ReconcileRequest {
  /** What was last applied, null if that is not known. */
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
  /** Hooks to leave alone, as `hookKey` gives them. */
  readonly except?: ReadonlySet<string>;
  /** Leaves the companions for another pass, but for those that hold what goes. */
  readonly chainsOnly?: boolean;
  /** Companions to leave alone, as `companionKey` gives them. */
  readonly exceptCompanions?: ReadonlySet<string>;
  /** The only companions to be started of those that do not run, by `companionKey`; absent: all. */
  readonly revivals?: ReadonlyMap<string, Revival>;
}

/** One pass: observe, plan, apply, observe again, report. Never throws for what a command may cause. */
export async function reconcile(
  request: ReconcileRequest,
  tools: Tools,
  context: PlanContext,
  observer?: Observer,
): Promise<Report> {
  const before = await tools.datapath.observe();
  const found = findingsOf(before, request.desired, context);
  // First of all, so that planning finds what runs as it was.
  const repinned = planPins(before, request.desired, context);
  const stillUnpinned = await runAll(repinned, tools, observer, 'prepare');
  const observed = repinned.length === 0 ? before : await tools.datapath.observe();
  const companions = await tools.companions.observe();
  let planned: Plan;
  try {
    planned = plan({ observed, companions, ...request }, context);
  } catch (error) {
    return refusal(error, observed);
  }

  const naming = namings([request.desired, ...(request.before === null ? [] : [request.before])], context);
  const old = new Set(planned.cleanup.flatMap((step) => (step.op === 'discard' ? [step.dir] : [])));
  const fresh = new Set(planned.prepare.flatMap((step) => ('dir' in step ? [step.dir] : [])));
  let renamed: readonly Step[] = [];
  const result = await apply(planned, tools, observer, async (undoing) => {
    // Where nothing is done, names go by what was looked at: somebody may have cut the chain since, which is for the next pass.
    const now = isEmpty(planned) ? observed : await tools.datapath.observe();
    renamed = planNames(now, context.bpffs, undoing ? fresh : old, naming);
    return runAll(renamed, tools, observer, 'cleanup');
  });

  // Names that had to wait until nothing uses what they named: the maps of a program whose directory somebody has removed.
  const cleaned = await tools.datapath.observe();
  const isClean = result.ok && result.leftovers.length === 0 && !isEmpty(planned);
  const late = isClean ? planNames(cleaned, context.bpffs, new Set(), naming) : [];
  const misnamed = await runAll(late, tools, observer, 'cleanup');
  renamed = [...renamed, ...late];
  const after = late.length === 0 ? cleaned : await tools.datapath.observe();
  const leftovers = [...stillUnpinned, ...result.leftovers, ...misnamed].map(inWords);
  if (!result.ok) return failureReport(result.failure, result.undone, leftovers, planned, request.desired, after);
  const untouched = isEmpty(planned) && renamed.length + repinned.length === 0;
  const quiet = planned.outcomes.every(({ result: what }) => what === 'unchanged' || what === 'disabled');
  return {
    status: untouched && quiet ? 'unchanged' : 'applied',
    outcomes: [
      ...planned.outcomes.map((outcome) => ({ ...outcome, programId: programIdOf(outcome, after) })),
      ...waitingOutcomes(request.desired, after),
    ],
    found: isEmpty(planned) ? [...found, ...nameFindings(renamed)] : found,
    reasons: [...repinned.map(describeStep), ...planned.reasons, ...renamed.map(describeStep)],
    faults: [],
    undone: undefined,
    leftovers,
    transient: false,
    observed: after,
  };
}

function refusal(error: unknown, observed: Observed): Report {
  return {
    status: 'failed',
    outcomes: [],
    found: [],
    reasons: [],
    cause: error,
    faults: faultsOf(error),
    undone: true,
    leftovers: [],
    transient: false,
    observed,
  };
}

function failureReport(
  failure: Failure,
  undone: boolean,
  leftovers: readonly string[],
  planned: Plan,
  desired: DesiredState,
  after: Observed,
): Report {
  const culprit = culpritOf(failure.step, desired);
  const faults = faultsOfFailure(failure, desired);
  const { message } = faults[0];
  const outcomes = planned.outcomes.flatMap((outcome): ReportedOutcome[] => {
    const program = culprit?.program;
    if (program?.name === outcome.name && sameHook(culprit!.hook, outcome.hook)) {
      return [{ ...outcome, result: 'failed', programId: undefined, message }];
    }
    const { hook, name } = outcome;
    const probes = observedProbes(after).findLast((probe) => probe.name === name);
    if (hook.direction === '') {
      return probes === undefined ? [] : [{ ...outcome, result: 'unchanged', programId: probes.probes[0]?.programId }];
    }
    const standing = standingChain(hookAt(after, hook)).find((generation) => generation.name === name);
    return standing === undefined ? [] : [{ ...outcome, result: 'unchanged', programId: standing.programId }];
  });
  return {
    status: 'failed',
    outcomes,
    found: [],
    reasons: [],
    cause: failure.error,
    ...culpritKey(culprit),
    faults,
    undone,
    leftovers,
    transient: failure.error instanceof AgentError && failure.error.transient,
    observed: after,
  };
}

/** What a step's failure is told as: with the step in words, and the field of the payload that is to blame. */
export function faultsOfFailure({ step, error }: Failure, desired: DesiredState): readonly [Fault, ...Fault[]] {
  const [first, ...rest] = faultsOf(error);
  const message = `${describeStep(step)}: ${first.message}`;
  const place = { ...pathOf(first, culpritOf(step, desired)?.program), ...pathOfStep(step, desired) };
  return [{ ...first, message, ...place }, ...rest];
}

/** The program that a step was done for. */
function culpritOf(step: Step, desired: DesiredState): Culprit | undefined {
  const places = [...desiredPlaces(desired)].toReversed();
  for (const { hook, programs } of places) {
    for (const program of programs) {
      if (step.op === 'load-probes' && hook.direction === '' && step.probes.name === program.name) {
        return { hook, program };
      }
      if ('generation' in step && sameHook(step.generation.hook, hook) && step.generation.name === program.name) {
        return { hook, program };
      }
      const launch = launchOf(step);
      if (launch !== undefined && sameHook(launch.hook, hook) && launch.package.name === program.name) {
        return { hook, program };
      }
      if (step.op === 'fetch' && isPackageOf(step.package, program)) {
        return { hook, program };
      }
    }
  }
  return undefined;
}

function culpritKey(culprit: Culprit | undefined): { culprit?: string } {
  if (culprit === undefined) return {};
  return { culprit: companionKey({ hook: culprit.hook, package: culprit.program }) };
}

interface Culprit {
  readonly hook: Hook | NoHook;
  readonly program: Program;
}

function isPackageOf(ref: PackageRef, program: Program): boolean {
  return (['name', 'version', 'artifact', 'repoUrl', 'sha256'] as const).every((k) => ref[k] === program[k]);
}

/** The companion that a step is about; of one that is stopped, the program is not to blame. */
function launchOf(step: Step): CompanionLaunch | undefined {
  if (step.op === 'check-companion' || step.op === 'start-companion') return step.launch;
  return step.op === 'update-companion' ? step.to : undefined;
}

/** The field of a program's payload that an error is about. */
const FIELD_AT_FAULT: Partial<Record<Fault['code'], string>> = {
  ARTIFACT_NOT_FOUND: 'artifact',
  ARTIFACT_UNREACHABLE: 'artifact',
  ARTIFACT_TOO_LARGE: 'artifact',
  ARTIFACT_INVALID: 'artifact',
  DIGEST_MISMATCH: 'artifact',
  OBJECT_FILE_NOT_FOUND: 'object_file',
  OBJECT_INVALID: 'object_file',
  ENTRY_FUNCTION_NOT_FOUND: 'entry_function_name',
  SLOT_INVALID: 'map_name',
  MAP_INCOMPATIBLE: 'carry_maps',
};

function pathOf(fault: Fault, program: Program | undefined): { path?: string } {
  if (program === undefined) return {};
  const field = fault.path ?? FIELD_AT_FAULT[fault.code];
  return { path: field === undefined ? program.path : `${program.path}.${field}` };
}

/** A chain that cannot be attached is no single program's fault: the interface is where somebody else is. */
function pathOfStep(step: Step, desired: DesiredState): { path?: string } {
  if (step.op === 'write-map') return { path: step.path };
  const [program] = step.op === 'attach' ? programsAt(desired, step.hook) : [];
  return program === undefined ? {} : { path: `${program.path.split('.', 1)[0]}.iface` };
}

function programIdOf(outcome: ProgramOutcome, observed: Observed): number | undefined {
  const { hook, dir } = outcome;
  // One of several stands for them all.
  if (hook.direction === '') return observedProbes(observed).find((one) => one.dir === dir)?.probes[0]?.programId;
  return hookAt(observed, hook).generations.find((generation) => generation.dir === dir)?.programId;
}

/** The name of a generation's slot map: it is part of what was asked for, while the kernel keeps 15 characters only. */
function namings(
  states: readonly DesiredState[],
  context: PlanContext,
): (generation: Generation) => Naming | undefined {
  return ({ hook, digest }) => {
    const { digest: rootDigest, slotMap } = context.roots[hook.direction];
    if (rootDigest === digest) return { slotMap, hasCompanion: false };
    const programs = states.flatMap((state) => programsAt(state, hook));
    const program = programs.find((other) => contentDigest(other) === digest);
    return program && { slotMap: program.mapName, hasCompanion: (program.companion?.cmdStart ?? '') !== '' };
  };
}

function inWords({ step, error }: Failure): string {
  return `${describeStep(step)}: ${error instanceof Error ? error.message : String(error)}`;
}
