import { apply, type Failure, type Observer, runAll, type Tools } from '../apply/executor.js';
import type { Turn } from '../apply/lane.js';
import { companionKey } from '../domain/companion.js';
import { cgroupsOf, type DesiredState, desiredPlaces, programsAt } from '../domain/desired.js';
import { foreignInWords } from '../domain/foreign.js';
import { type Hook, hookKey, isTracing, sameHook } from '../domain/hook.js';
import { hookAt, type LoadedProgram, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import { contentDigest, type PackageRef, type Program } from '../domain/program.js';
import { AgentError, type Fault, faultsOf, messageOf } from '../errors.js';
import type { PlanContext, Revival } from '../plan/context.js';
import { findingsOf, nameFindings } from '../plan/findings.js';
import { type Naming, planNames, takenNames } from '../plan/maps/names.js';
import { planPins } from '../plan/maps/pins.js';
import { isEmpty, plan, stepsOf } from '../plan/plan.js';
import { waitingOutcomes } from '../plan/waiting.js';
import { describeStep } from '../steps/describe.js';
import type { Plan, ProgramOutcome } from '../steps/plan.js';
import type { Step } from '../steps/step.js';
import { endedBy, madeBy, traitsOf } from '../steps/traits.js';
import { liveEntryFindings, withEntries } from './live-entries.js';

/** The outcome of one program, with its id in the kernel afterwards. */
export interface ReportedOutcome extends ProgramOutcome {
  readonly programId: number | undefined;
  /** Whether the program did not run before, since it was disabled; absent otherwise. */
  readonly wasDisabled?: true;
}

export interface Report {
  readonly status: 'applied' | 'unchanged' | 'failed';
  readonly outcomes: readonly ReportedOutcome[];
  /** What was not as desired, as sentences. */
  readonly found: readonly string[];
  /** For each hook that changed: how, and why this is safe. */
  readonly reasons: readonly string[];
  /** Why it failed; empty if it did not. */
  readonly faults: readonly Fault[];
  /** The original error with all details, for the log. */
  readonly cause?: unknown;
  /** The program that caused the failure, as `companionKey` names its companion. */
  readonly culprit?: string;
  /** After a failure: whether everything is as before. */
  readonly undone: boolean | undefined;
  /** What could not be cleaned up, as sentences. The next reconcile tries again. */
  readonly leftovers: readonly string[];
  /** Whether the same attempt may succeed later. */
  readonly transient: boolean;
  /**
   * What somebody should know although nothing has failed, as sentences: what is not ours and is in the way, what of an
   * object is not attached.
   */
  readonly notes: readonly string[];
  /** The state after the pass. */
  readonly observed: Observed;
}

export interface ReconcileRequest {
  /** What was last applied; null if unknown. */
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
  /** What was observed in the same turn, if nothing was changed since; absent to observe. */
  readonly seen?: Observed;
  /** Hooks to leave alone, as `hookKey` gives them. */
  readonly except?: ReadonlySet<string>;
  /** Leaves the companions to another pass, except those that use what is removed. */
  readonly chainsOnly?: boolean;
  /** Companions to leave alone, as `companionKey` gives them. */
  readonly exceptCompanions?: ReadonlySet<string>;
  /** The only companions to start among those that do not run, by `companionKey`. Absent: all. */
  readonly revivals?: ReadonlyMap<string, Revival>;
}

/**
 * One pass: observe, plan, apply, observe again if something was changed that an observation shows, report. It never
 * throws for errors that a command can cause.
 */
export async function reconcile(
  turn: Turn,
  request: ReconcileRequest,
  tools: Tools,
  context: PlanContext,
  observer?: Observer,
): Promise<Report> {
  turn.assertHeld();
  const observe = () => tools.datapath.observe(cgroupsOf(request.desired));
  const before = request.seen ?? (await observe());
  // First, so that the planner finds running programs as they were.
  const repinned = planPins(before, request.desired, context);
  const stillUnpinned = await runAll(repinned, tools, observer, 'prepare');
  const seen = repinned.length === 0 ? before : await observe();
  const observed = await withEntries(seen, [request.desired, request.before], tools.datapath);
  const found = [...findingsOf(before, request.desired, context), ...liveEntryFindings(observed, request.desired)];
  const companions = await tools.companions.observe();
  let planned: Plan;
  try {
    planned = plan({ observed, companions, ...request }, context);
  } catch (error) {
    return refusal(error, observed);
  }

  const naming = namings([request.desired, ...(request.before === null ? [] : [request.before])], context);
  const [old, fresh] = [endedBy(planned.cleanup), madeBy(planned.prepare)];
  let renamed: readonly Step[] = [];
  // If somebody has changed the chain since the observation, the next pass handles it.
  const isOutdated = stepsOf(planned).some((step) => traitsOf(step).outdates);
  const result = await apply(planned, tools, observer, async (undoing) => {
    const now = isOutdated ? await observe() : seen;
    renamed = planNames(now, context.bpffs, undoing ? fresh : old, naming);
    return runAll(renamed, tools, observer, 'cleanup');
  });

  // Names that had to wait until nothing uses the maps that they name: maps of a program whose directory somebody has
  // removed.
  const cleaned = isOutdated || renamed.length > 0 || !result.ok ? await observe() : seen;
  const isClean = result.ok && result.leftovers.length === 0 && !isEmpty(planned);
  const late = isClean ? planNames(cleaned, context.bpffs, new Set(), naming) : [];
  const misnamed = await runAll(late, tools, observer, 'cleanup');
  renamed = [...renamed, ...late];
  const after = late.length === 0 ? cleaned : await observe();
  const leftovers = [...stillUnpinned, ...result.leftovers, ...misnamed].map(inWords);
  if (!result.ok) return failureReport(result.failure, result.undone, leftovers, planned, request.desired, after);
  const untouched = isEmpty(planned) && renamed.length + repinned.length === 0;
  const quiet = planned.outcomes.every(({ result: what }) => what === 'unchanged' || what === 'disabled');
  const dropped = droppedOutcomes(request);
  return {
    status: untouched && quiet && dropped.length === 0 ? 'unchanged' : 'applied',
    outcomes: [
      ...planned.outcomes.map((outcome) => ({ ...outcome, programId: programIdOf(outcome, after) })),
      ...waitingOutcomes(request.desired, after),
      ...dropped,
    ],
    found: isEmpty(planned) ? [...found, ...nameFindings(renamed)] : found,
    reasons: [...repinned.map(describeStep), ...planned.reasons, ...renamed.map(describeStep)],
    faults: [],
    undone: undefined,
    leftovers,
    transient: false,
    notes: [...foreignNotes(planned.outcomes, after), ...takenNames(after, context.bpffs, naming), ...result.notes],
    observed: after,
  };
}

/** What else is at the hooks of the programs that a command names or changes. */
function foreignNotes(outcomes: readonly ProgramOutcome[], observed: Observed): string[] {
  const hooks = outcomes.flatMap(({ hook, dir }) =>
    dir === undefined || isTracing(hook) ? [] : [[hookKey(hook), hook] as const],
  );
  return [...new Map(hooks)].flatMap(([key, hook]) =>
    (hookAt(observed, hook).foreign ?? []).map((foreign) => `${key}: ${foreignInWords(foreign)}`),
  );
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
    notes: [],
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
    if (isTracing(hook)) {
      return probes === undefined ? [] : [{ ...outcome, result: 'unchanged', programId: probes.probes[0]?.programId }];
    }
    const standing = standingChain(hookAt(after, hook)).find((loaded) => loaded.name === name);
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
    notes: [],
    observed: after,
  };
}

/** The faults that a failed step is reported as: with a description of the step and the payload field at fault. */
export function faultsOfFailure({ step, error }: Failure, desired: DesiredState): readonly [Fault, ...Fault[]] {
  const [first, ...rest] = faultsOf(error);
  const message = `${describeStep(step)}: ${first.message}`;
  const place = { ...pathOf(first, culpritOf(step, desired)?.program), ...pathOfStep(step, desired) };
  return [{ ...first, message, ...place }, ...rest];
}

/** Disabled programs that are no longer desired. Nothing of them ran, but they cannot be enabled any more. */
function droppedOutcomes({ before, desired }: ReconcileRequest): ReportedOutcome[] {
  if (before === null) return [];
  return desiredPlaces(before).flatMap(({ hook, programs }) => {
    const kept = desiredPlaces(desired).find((place) => sameHook(place.hook, hook))?.programs ?? [];
    return programs
      .filter(({ name, enabled }) => !enabled && !kept.some((program) => program.name === name))
      .map(({ name, version }): ReportedOutcome => {
        const common = { hook, name, version, dir: undefined, programId: undefined };
        return { ...common, result: 'stopped', message: 'It was disabled', wasDisabled: true };
      });
  });
}

/** The program at fault if a step fails. */
function culpritOf(step: Step, desired: DesiredState): Culprit | undefined {
  const { blame, hook: where } = traitsOf(step);
  const isCulprit = ({ hook, program }: Culprit) => {
    if (blame?.on === 'package') return isPackageOf(blame.package, program);
    return blame?.on === 'program' && where !== undefined && sameHook(where, hook) && blame.name === program.name;
  };
  const places = desiredPlaces(desired).toReversed();
  return places.flatMap(({ hook, programs }) => programs.map((program) => ({ hook, program }))).find(isCulprit);
}

function culpritKey(culprit: Culprit | undefined): { culprit?: string } {
  if (culprit === undefined) return {};
  return { culprit: companionKey({ hook: culprit.hook, package: culprit.program }) };
}

interface Culprit {
  readonly hook: Hook;
  readonly program: Program;
}

function isPackageOf(ref: PackageRef, program: Program): boolean {
  return (['name', 'version', 'artifact', 'repoUrl', 'sha256'] as const).every((k) => ref[k] === program[k]);
}

/** The field of a program's payload that an error concerns. */
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

/**
 * A failed attach is not the fault of a single program: a foreign program may hold the interface. So the path names the
 * interface.
 */
function pathOfStep(step: Step, desired: DesiredState): { path?: string } {
  const { blame, hook } = traitsOf(step);
  if (blame?.on === 'field') return { path: blame.path };
  if (blame?.on !== 'interface' || hook === undefined || isTracing(hook)) return {};
  const [program] = programsAt(desired, hook);
  return program === undefined ? {} : { path: `${program.path.split('.', 1)[0]}.iface` };
}

function programIdOf(outcome: ProgramOutcome, observed: Observed): number | undefined {
  const { hook, dir } = outcome;
  // The id of one probe stands for all of them.
  if (isTracing(hook)) return observedProbes(observed).find((one) => one.dir === dir)?.probes[0]?.programId;
  return hookAt(observed, hook).loadedPrograms.find((loaded) => loaded.dir === dir)?.programId;
}

/**
 * The names of a loaded program's slot map. Only the request has the full name: the kernel keeps only 15 characters.
 */
function namings(states: readonly DesiredState[], context: PlanContext): (loaded: LoadedProgram) => Naming | undefined {
  return ({ hook, digest }) => {
    const { digest: rootDigest, slotMap } = context.roots[hook.direction];
    if (rootDigest === digest) return { slotMap, hasCompanion: false };
    const programs = states.flatMap((state) => programsAt(state, hook));
    const program = programs.find((other) => contentDigest(other) === digest);
    return program && { slotMap: program.mapName, hasCompanion: (program.companion?.cmdStart ?? '') !== '' };
  };
}

function inWords({ step, error }: Failure): string {
  return `${describeStep(step)}: ${messageOf(error)}`;
}
