import type { ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type ChainHook, type Hook, hookKey, isTracing, TRACING } from '../domain/hook.js';
import { hookAt, isPresent, type Observed, observedProbes } from '../domain/observed.js';
import { mapPin, slotPin } from '../domain/pins.js';
import type { Plan } from '../steps/plan.js';
import type { FetchStep, GraceStep, Step } from '../steps/step.js';
import { endedBy, traitsOf } from '../steps/traits.js';
import { type HookPlan, planHook } from './chain/hook.js';
import { withOtherSides } from './chain/other-side.js';
import { planCompanions } from './companions/companions.js';
import type { Loaders, PlanContext, Revival } from './context.js';
import { proofOf } from './proof.js';
import { reasonOf } from './reason.js';
import { type ProbesPlan, planProbes } from './tracing/probes.js';

export interface PlanInput {
  readonly observed: Observed;
  /** What was last applied; null if unknown. It tells which map entries the agent may remove. */
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
  /** Hooks to leave out of the plan, as {@link hookKey} gives them. */
  readonly except?: ReadonlySet<string>;
  /** The companions that exist. */
  readonly companions: readonly ObservedCompanion[];
  /** Starts no companions. Companions that use what is removed are still stopped. */
  readonly chainsOnly?: boolean;
  /** Companions to leave out of the plan, as `companionKey` gives them. */
  readonly exceptCompanions?: ReadonlySet<string>;
  /** The only companions to start among those that do not run, by `companionKey`. Absent: all. */
  readonly revivals?: ReadonlyMap<string, Revival>;
}

/**
 * Plans the ordered steps from the observed state to the desired state. Pure: the same input gives the same plan.
 *
 * All hooks are prepared before the first one is committed. So everything that can fail has failed before a packet
 * notices anything. A hook whose interface is absent keeps its pins and waits.
 *
 * @throws AgentError MAP_VALUE_INVALID if `map_args` do not fit a running program's maps, MAP_NOT_FOUND if a map of
 *   `carry_maps` is missing
 */
export function plan(input: PlanInput, context: PlanContext): Plan {
  const { observed, before, desired } = input;
  const concerned = (hook: Hook) =>
    input.except?.has(hookKey(hook)) !== true &&
    (isTracing(hook) || isPresent(observed, hook) || programsAt(desired, hook).length === 0);
  const [except, chainsOnly] = [input.exceptCompanions ?? new Set<string>(), input.chainsOnly === true];
  const loaders = { running: input.companions, except, revivals: input.revivals, chainsOnly };
  const names = { ...observed, pins: pinsById(observed) };
  const hookPlans = hooksOf(observed, desired)
    .filter(concerned)
    .map((hook) => {
      const previous = before === null ? undefined : programsAt(before, hook);
      const [there, wanted] = [hookAt(observed, hook), programsAt(desired, hook)];
      return planHook({ observed: there, before: previous, wanted, ground: observed, loaders, names }, context);
    });

  // Attaching may fail if another program holds the hook. So it comes before any change that packets notice at other
  // hooks.
  const [attaching, standing] = [hookPlans.filter(attaches), hookPlans.filter((hook) => !attaches(hook))];
  const commit = [...attaching, ...standing].flatMap((hook) => hook.commit);
  const discard = hookPlans.flatMap((hook) => hook.discard);
  const probes = probesPlan(input, loaders, context);
  const grace = graceBetween(commit, discard);
  const loads = hookPlans.flatMap((hook) => hook.prepare);
  const prepare = [...withOtherSides(loads, observed, endedBy(discard)), ...probes.prepare];
  const outcomes = [...hookPlans.flatMap((hook) => hook.outcomes), ...probes.outcomes];
  const running = input.companions.filter(({ launch }) => concerned(launch.hook));
  const companions = planCompanions({
    observed,
    desired,
    running,
    prepare,
    outcomes,
    stopOnly: chainsOnly,
    except,
    revivals: input.revivals,
  });
  const detach = hookPlans.flatMap((hook) => hook.detach);
  const cleanup = [...grace, ...companions.retire, ...detach, ...discard, ...probes.discard];
  const { stop, start } = companions;
  const flips = [...commit, ...probes.commit];
  return {
    prepare: withFetches([...prepare, ...companions.prepare], [...flips, ...stop, ...start]),
    commit: flips,
    stop,
    start,
    // The kernel releases everything together, so one step at the end proves that all of it is gone.
    cleanup: [...cleanup, ...proofOf(observed, [...prepare, ...commit, ...cleanup])],
    outcomes: companions.outcomes,
    reasons: [...hookPlans.flatMap((hookPlan) => reasonOf(hookPlan) ?? []), ...probes.reasons, ...companions.reasons],
  };
}

/** Probes have no place in the order of hooks. They can be left out like a hook. */
function probesPlan(
  { observed, before, desired, except }: PlanInput,
  loaders: Loaders,
  context: PlanContext,
): ProbesPlan {
  if (except?.has(hookKey(TRACING)) === true) return NO_PROBES;
  const previous = before === null ? undefined : probesOf(before);
  const wanted = probesOf(desired);
  return planProbes(
    { observed: observedProbes(observed), before: previous, wanted, ground: observed, loaders },
    context,
  );
}

const NO_PROBES: ProbesPlan = { prepare: [], commit: [], discard: [], outcomes: [], reasons: [] };

export function isEmpty(plan: Plan): boolean {
  return stepsOf(plan).length === 0;
}

/** All steps of a plan. */
export function stepsOf({ prepare, commit, stop, start, cleanup }: Plan): readonly Step[] {
  return [...prepare, ...commit, ...stop, ...start, ...cleanup];
}

/** Whether a foreign program at the interface can make the commit fail. */
function attaches({ commit }: HookPlan): boolean {
  return commit.some((step) => traitsOf(step).blame?.on === 'interface');
}

/** Pins of the maps of chains, slots included, by map id. */
function pinsById({ hooks }: Observed): ReadonlyMap<number, string> {
  return new Map(
    hooks.flatMap(({ loadedPrograms }) =>
      loadedPrograms.flatMap(({ dir, maps, slot }) => [
        ...maps.map(({ id, name }) => [id, mapPin(dir, name)] as const),
        ...(slot === undefined ? [] : [[slot.mapId, slotPin(dir)] as const]),
      ]),
    ),
  );
}

/** A packet may still be inside the old programs when the path of packets has just changed. */
export function graceBetween(commit: readonly Step[], discard: readonly Step[]): GraceStep[] {
  return discard.length > 0 && commit.some((step) => traitsOf(step).diverts) ? [{ op: 'grace' }] : [];
}

function hooksOf(observed: Observed, desired: DesiredState): ChainHook[] {
  const hooks = new Map<string, ChainHook>();
  for (const { hook } of [...desired.chains, ...observed.hooks]) hooks.set(hookKey(hook), hook);
  return [...hooks.values()];
}

/**
 * Adds a fetch of each package, once, right before the first step that needs it. What later phases need is fetched at
 * the end of prepare, before anything changes.
 */
function withFetches(prepare: readonly Step[], later: readonly Step[]): Step[] {
  const fetched = new Set<string>();
  const fetchFor = (step: Step): FetchStep[] => {
    const { package: needed } = traitsOf(step);
    const key = JSON.stringify(needed);
    if (needed === undefined || fetched.has(key)) return [];
    fetched.add(key);
    return [{ op: 'fetch', package: needed }];
  };
  return [...prepare.flatMap((step) => [...fetchFor(step), step]), ...later.flatMap(fetchFor)];
}
