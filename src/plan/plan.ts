import { type DesiredState, programsAt } from '../domain/desired.js';
import { type Hook, hookKey } from '../domain/hook.js';
import { hookAt, type Observed } from '../domain/observed.js';
import type { Plan, Step } from '../domain/step.js';
import type { PlanContext } from './context.js';
import { type HookPlan, planHook } from './hook.js';
import { reasonOf } from './reason.js';

export interface PlanInput {
  readonly observed: Observed;
  /** What was last applied, null if that is not known. Tells which map entries were ours to remove. */
  readonly before: DesiredState | null;
  readonly desired: DesiredState;
  /** Hooks to leave out of the plan, as {@link hookKey} gives them. */
  readonly except?: ReadonlySet<string>;
}

/**
 * The ordered steps from what is to what is wanted. Pure: the same input gives the same plan.
 *
 * All hooks are prepared before the first one is committed, so that whatever can fail has failed before a packet notices
 * anything. A hook whose interface is absent keeps its pins and waits.
 *
 * @throws AgentError MAP_NOT_FOUND or MAP_VALUE_INVALID when `map_args` do not fit a running program's maps
 */
export function plan(input: PlanInput, context: PlanContext): Plan {
  const { observed, before, desired } = input;
  const hookPlans = hooksOf(observed, desired)
    .filter((hook) => input.except?.has(hookKey(hook)) !== true)
    .filter((hook) => observed.interfaces.has(hook.iface) || programsAt(desired, hook).length === 0)
    .map((hook) => {
      const previous = before === null ? undefined : programsAt(before, hook);
      return planHook(
        { observed: hookAt(observed, hook), before: previous, wanted: programsAt(desired, hook) },
        context,
      );
    });

  // Attaching may fail where somebody else holds the hook, so it comes before anything that packets notice at other hooks.
  const [attaching, standing] = [hookPlans.filter(attaches), hookPlans.filter((hook) => !attaches(hook))];
  const commit = [...attaching, ...standing].flatMap((hook) => hook.commit);
  const discard = hookPlans.flatMap((hook) => hook.discard);
  const grace: Step[] = discard.length > 0 && commit.some(divertsPackets) ? [{ op: 'grace' }] : [];
  return {
    prepare: withoutRepeatedFetches(hookPlans.flatMap((hook) => hook.prepare)),
    commit,
    cleanup: [...grace, ...hookPlans.flatMap((hook) => hook.detach), ...discard],
    outcomes: hookPlans.flatMap((hook) => hook.outcomes),
    reasons: hookPlans.flatMap((hookPlan) => reasonOf(hookPlan) ?? []),
  };
}

export function isEmpty(plan: Plan): boolean {
  return plan.prepare.length + plan.commit.length + plan.cleanup.length === 0;
}

function attaches({ commit }: HookPlan): boolean {
  return commit.some(({ op }) => op === 'attach');
}

/** Whether packets take another way after a step, so that some may still be on the old one. */
function divertsPackets(step: Step): boolean {
  return step.op === 'detach' || step.op === 'retarget' || (step.op === 'link' && step.live);
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
