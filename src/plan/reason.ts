import { hookKey } from '../domain/hook.js';
import { ROOT_NAMES } from '../domain/pins.js';
import type { Step } from '../steps/step.js';
import { type Blame, type Traits, traitsOf } from '../steps/traits.js';
import type { HookPlan, LinkCounts } from './chain/hook.js';

/** A sentence on how a hook changes and why this is safe; undefined if nothing changes. */
export function reasonOf(plan: HookPlan): string | undefined {
  const how = change(plan);
  return how === undefined ? undefined : `${hookKey(plan.hook)}: ${how}`;
}

function change({ prepare, commit, detach, discard, links }: HookPlan): string | undefined {
  const does = (op: Step['op']) => commit.some((step) => step.op === op);
  const loads = prepare.map(traitsOf).filter(({ pins, blame }) => pins.makes.length > 0 && !isRoot(blame));
  const count = `${loads.length} ${loads.length === 1 ? 'program' : 'programs'}`;
  const { kept, changed, added, removed } = links;
  if (kept + added === 0 && removed > 0) return 'removes the chain, since no program is enabled there';
  if (changed + removed > 0 && changed + added + removed > 1) return `loads ${count} and ${inSteps(links)}`;
  if (removed > 0) return 'removes programs from the chain by removing their link';
  if (does('retarget')) {
    return loads.length === 0
      ? 'keeps the running programs and changes the program by which packets enter, in one step'
      : `loads ${count} and replaces the attached program in one step`;
  }
  if (added > 0 && kept > 0)
    return loads.length === 0 ? 'attaches programs that are still pinned' : `loads ${count} and adds a link`;
  if (added > 0) {
    return loads.length === 0
      ? 'attaches the chain that is still pinned'
      : `loads ${count} and attaches the chain last`;
  }
  if (does('link')) return `${stretch(loads, count)} by one write to the slot before`;
  if (does('write-map')) return 'changes entries of live maps; nothing is loaded';
  return detach.length + discard.length > 0 ? 'unloads programs that no packet reaches' : undefined;
}

/** No single write can change several links. */
function inSteps({ changed, added, removed }: LinkCounts): string {
  const steps = `changes links and slots in ${changed + added + removed} steps, since programs without slot have links of their own`;
  const how =
    'new programs first, old programs last: a packet in between may pass a program twice, but misses none that stays';
  return `${steps}; ${how}`;
}

function isRoot(blame: Blame | undefined): boolean {
  return blame?.on === 'program' && ROOT_NAMES.includes(blame.name);
}

function stretch(loads: readonly Traits[], count: string): string {
  if (loads.length === 0) return 'removes programs from the chain';
  const twins = loads.filter(({ pins }) => pins.takesOver.length > 0).length;
  if (twins === 0) return `loads ${count} and puts the new programs in place`;
  return `loads ${count} beside the live ones, ${twins} of them with the data maps that they have, and puts the stretch in place`;
}
