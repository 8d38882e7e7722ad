import { hookKey } from '../domain/hook.js';
import type { LoadStep, Step } from '../domain/step.js';
import type { HookPlan } from './hook.js';

/** How a hook changes and why it is safe, in a sentence; undefined where nothing changes. */
export function reasonOf(plan: HookPlan): string | undefined {
  const how = change(plan);
  return how === undefined ? undefined : `${hookKey(plan.hook)}: ${how}`;
}

function change({ prepare, commit, detach, discard }: HookPlan): string | undefined {
  const does = (op: Step['op']) => commit.some((step) => step.op === op);
  const loads = prepare.filter((step): step is LoadStep => step.op === 'load' && step.source.kind === 'package');
  const count = `${loads.length} ${loads.length === 1 ? 'program' : 'programs'}`;
  if (does('detach')) return 'takes the chain down, since nothing is to run there';
  if (does('retarget')) return `loads ${count} and swaps the attached program for another in one step`;
  if (does('attach')) {
    return loads.length === 0
      ? 'attaches the chain that is still pinned'
      : `loads ${count} and attaches the chain last`;
  }
  if (does('link')) return `${stretch(loads, count)} by one write to the slot before`;
  if (does('write-map')) return 'changes entries of live maps; nothing is loaded';
  return detach.length + discard.length > 0 ? 'unloads what no packet reaches' : undefined;
}

function stretch(loads: readonly LoadStep[], count: string): string {
  if (loads.length === 0) return 'leaves programs out of the chain';
  const twins = loads.filter(({ share }) => share.length > 0).length;
  if (twins === 0) return `loads ${count} and puts what is new in place`;
  return `loads ${count} beside the live ones, ${twins} of them again on the data maps they have, and puts the stretch in place`;
}
