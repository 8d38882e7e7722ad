import type { ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type Hook, hookKey, NO_HOOK, type NoHook } from '../domain/hook.js';
import { hookAt, type Observed, observedProbes } from '../domain/observed.js';
import { mapPin, slotPin } from '../domain/pins.js';
import type { Plan } from '../domain/plan.js';
import type { Step } from '../domain/step.js';
import { planCompanions } from './companions.js';
import type { PlanContext, Revival } from './context.js';
import { type HookPlan, planHook } from './hook.js';
import { withOtherSides } from './other-side.js';
import { type ProbesPlan, planProbes } from './probes.js';
import { proofOf } from './proof.js';
import { reasonOf } from './reason.js';

export interface PlanInput {
  readonly observed: Observed;
  /** What was last applied, null if that is not known. Tells which map entries were ours to remove. */
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
  /** Hooks to leave out of the plan, as {@link hookKey} gives them. */
  readonly except?: ReadonlySet<string>;
  /** The companions that are there. */
  readonly companions: readonly ObservedCompanion[];
  /** Starts no companions; those that hold what goes are stopped all the same. */
  readonly chainsOnly?: boolean;
  /** Companions to leave out of the plan, as `companionKey` gives them. */
  readonly exceptCompanions?: ReadonlySet<string>;
  /** The only companions to be started of those that do not run, by `companionKey`; absent: all. */
  readonly revivals?: ReadonlyMap<string, Revival>;
}

/**
 * The ordered steps from what is to what is wanted. Pure: the same input gives the same plan.
 *
 * All hooks are prepared before the first one is committed, so that whatever can fail has failed before a packet notices
 * anything. A hook whose interface is absent keeps its pins and waits.
 *
 * @throws AgentError MAP_VALUE_INVALID when `map_args` do not fit a running program's maps, MAP_NOT_FOUND when it has none of `carry_maps`
 */
export function plan(input: PlanInput, context: PlanContext): Plan {
  const { observed, before, desired } = input;
  const concerned = (hook: Hook | NoHook) =>
    input.except?.has(hookKey(hook)) !== true &&
    (hook.direction === '' || observed.interfaces.has(hook.iface) || programsAt(desired, hook).length === 0);
  const [except, chainsOnly] = [input.exceptCompanions ?? new Set<string>(), input.chainsOnly === true];
  const loaders = { running: input.companions, except, revivals: input.revivals, chainsOnly };
  const names = { ...observed, pins: pinsById(observed) };
  const hookPlans = hooksOf(observed, desired)
    .filter(concerned)
    .map((hook) => {
      const previous = before === null ? undefined : programsAt(before, hook);
      const [there, wanted] = [hookAt(observed, hook), programsAt(desired, hook)];
      return planHook({ observed: there, before: previous, wanted, loaders, names }, context);
    });

  // Attaching may fail where somebody else holds the hook, so it comes before anything that packets notice at other hooks.
  const [attaching, standing] = [hookPlans.filter(attaches), hookPlans.filter((hook) => !attaches(hook))];
  const commit = [...attaching, ...standing].flatMap((hook) => hook.commit);
  const discard = hookPlans.flatMap((hook) => hook.discard);
  const probes = probesPlan(input, context);
  const grace: Step[] = discard.length > 0 && commit.some(divertsPackets) ? [{ op: 'grace' }] : [];
  const loads = hookPlans.flatMap((hook) => hook.prepare);
  const prepare = [...withOtherSides(loads, observed, dirsOf(discard)), ...probes.prepare];
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
  return {
    prepare: withoutRepeatedFetches([...prepare, ...companions.prepare]),
    commit: [...commit, ...probes.commit],
    stop: companions.stop,
    start: companions.start,
    // All that goes is seen gone together at the end, since the kernel lets go of it together.
    cleanup: [...cleanup, ...proofOf(observed, [...prepare, ...commit, ...cleanup])],
    outcomes: companions.outcomes,
    reasons: [...hookPlans.flatMap((hookPlan) => reasonOf(hookPlan) ?? []), ...probes.reasons, ...companions.reasons],
  };
}

/** They have no part in the hooks' order, and can be left out like one of them. */
function probesPlan({ observed, before, desired, except }: PlanInput, context: PlanContext): ProbesPlan {
  if (except?.has(hookKey(NO_HOOK)) === true) return NO_PROBES;
  const previous = before === null ? undefined : probesOf(before);
  return planProbes({ observed: observedProbes(observed), before: previous, wanted: probesOf(desired) }, context);
}

const NO_PROBES: ProbesPlan = { prepare: [], commit: [], discard: [], outcomes: [], reasons: [] };

export function isEmpty(plan: Plan): boolean {
  const { prepare, commit, stop, start, cleanup } = plan;
  return [prepare, commit, stop, start, cleanup].every((steps) => steps.length === 0);
}

function attaches({ commit }: HookPlan): boolean {
  return commit.some(({ op }) => op === 'attach');
}

/** Where the maps of chains are pinned, slots among them. */
function pinsById({ hooks }: Observed): ReadonlyMap<number, string> {
  return new Map(
    hooks.flatMap(({ generations }) =>
      generations.flatMap(({ dir, maps, slot }) => [
        ...maps.map(({ id, name }) => [id, mapPin(dir, name)] as const),
        ...(slot === undefined ? [] : [[slot.mapId, slotPin(dir)] as const]),
      ]),
    ),
  );
}

/** Whether packets take another way after a step, so that some may still be on the old one. */
function divertsPackets(step: Step): boolean {
  return step.op === 'detach' || step.op === 'retarget' || (step.op === 'link' && step.live);
}

function dirsOf(discard: readonly Step[]): ReadonlySet<string> {
  return new Set(discard.flatMap((step) => (step.op === 'discard' ? [step.dir] : [])));
}

function hooksOf(observed: Observed, desired: DesiredState): Hook[] {
  const hooks = new Map<string, Hook>();
  for (const { hook } of [...desired.chains, ...observed.hooks]) hooks.set(hookKey(hook), hook);
  return [...hooks.values()];
}

function withoutRepeatedFetches(steps: readonly Step[]): Step[] {
  const seen = new Set<string>();
  return steps.filter((step) => {
    if (step.op !== 'fetch') return true;
    const key = JSON.stringify(step.package);
    return seen.has(key) ? false : seen.add(key);
  });
}
