import { hookKey } from '../domain/hook.js';
import { ROOT_NAMES } from '../domain/pins.js';
import type { CaptureStep, LoadStep, Step } from '../domain/step.js';
import type { HookPlan, LinkCounts } from './hook.js';

/** How a hook changes and why it is safe, in a sentence; undefined where nothing changes. */
export function reasonOf(plan: HookPlan): string | undefined {
  const how = change(plan);
  return how === undefined ? undefined : `${hookKey(plan.hook)}: ${how}`;
}

function change({ prepare, commit, detach, discard, links }: HookPlan): string | undefined {
  const does = (op: Step['op']) => commit.some((step) => step.op === op);
  const loads = prepare.filter((step): step is LoadStep | CaptureStep => {
    return (step.op === 'load' && !isRoot(step)) || step.op === 'capture';
  });
  const count = `${loads.length} ${loads.length === 1 ? 'program' : 'programs'}`;
  const { kept, changed, added, removed } = links;
  if (kept + added === 0 && removed > 0) return 'takes the chain down, since nothing is to run there';
  if (changed + removed > 0 && changed + added + removed > 1) return `loads ${count} and ${inSteps(links)}`;
  if (removed > 0) return 'leaves programs out of the chain by taking their link away';
  if (does('retarget')) {
    return loads.length === 0
      ? 'keeps what runs and changes the program that packets enter by, in one step'
      : `loads ${count} and swaps the attached program for another in one step`;
  }
  if (added > 0 && kept > 0)
    return loads.length === 0 ? 'attaches what is still pinned' : `loads ${count} and adds a link`;
  if (added > 0) {
    return loads.length === 0
      ? 'attaches the chain that is still pinned'
      : `loads ${count} and attaches the chain last`;
  }
  if (does('link')) return `${stretch(loads, count)} by one write to the slot before`;
  if (does('write-map')) return 'changes entries of live maps; nothing is loaded';
  return detach.length + discard.length > 0 ? 'unloads what no packet reaches' : undefined;
}

/** There is no one write for several links. */
function inSteps({ changed, added, removed }: LinkCounts): string {
  const steps = `changes links and slots in ${changed + added + removed} steps, since programs without slot have links of their own`;
  const how =
    'what is new first and what is old last: a packet in between may pass a program twice, but misses none that stays';
  return `${steps}; ${how}`;
}

function isRoot({ generation }: LoadStep | CaptureStep): boolean {
  return ROOT_NAMES.includes(generation.name);
}

function stretch(loads: readonly (LoadStep | CaptureStep)[], count: string): string {
  if (loads.length === 0) return 'leaves programs out of the chain';
  const twins = loads.filter(({ op, share }) => op === 'load' && share.length > 0).length;
  if (twins === 0) return `loads ${count} and puts what is new in place`;
  return `loads ${count} beside the live ones, ${twins} of them again on the data maps they have, and puts the stretch in place`;
}
