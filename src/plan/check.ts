import type { DesiredState } from '../domain/desired.js';
import { type Hook, hookKey, programKind } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Program } from '../domain/program.js';
import type { Fault } from '../errors.js';
import type { PlanContext } from './context.js';

/**
 * Tail calls that the kernel allows one packet, MAX_TAIL_CALL_CNT in include/linux/bpf.h; the root makes the first. TCX has room for 63
 * programs at a hook (bpf_mprog_max in include/linux/bpf_mprog.h).
 */
const LONGEST_CHAIN = 33;

/** The interfaces that chains name with something to run, and that this host does not have. */
export function absentInterfaces({ chains }: Pick<DesiredState, 'chains'>, observed: Observed): Fault[] {
  const absent = new Map<string, Fault>();
  for (const { hook, programs } of chains) {
    const program = programs.find(({ enabled }) => enabled);
    if (program === undefined || observed.interfaces.has(hook.iface)) continue;
    const message = `This host has no interface ${hook.iface}`;
    absent.set(hook.iface, { path: `${program.path.split('.', 1)[0]}.iface`, code: 'INTERFACE_NOT_FOUND', message });
  }
  return [...absent.values()];
}

/** What of the planning's context decides whether a desired state can be. */
export type ChainRules = Pick<PlanContext, 'chaining' | 'tcx'>;

/**
 * What speaks against a desired state before anything is planned. Only what holds for the whole chain is looked at here; single
 * fields were checked when the payload was parsed.
 */
export function check(desired: DesiredState, rules: ChainRules): Fault[] {
  return desired.chains.flatMap(({ hook, programs }) => {
    const running = programs.filter((program) => program.enabled);
    if (!rules.chaining) return beyondTheOnly(hook, running);
    return [...beyondTheLongest(hook, running), ...withoutSuccessor(hook, running, rules)];
  });
}

function beyondTheOnly(hook: Hook, running: readonly Program[]): Fault[] {
  return running.slice(1).map(({ path }) => {
    const message = `Chaining is off, so ${hookKey(hook)} holds one program; ${running[0]?.name} is there already`;
    return { path, code: 'CHAINING_OFF', message };
  });
}

function beyondTheLongest(hook: Hook, running: readonly Program[]): Fault[] {
  return running.slice(LONGEST_CHAIN).map(({ name, path }) => {
    const message = `A chain holds at most ${LONGEST_CHAIN} programs, and ${name} comes after them at ${hookKey(hook)}`;
    return { path, code: 'INVALID_FIELD', message };
  });
}

/** TCX itself runs one program after the other; elsewhere a program needs a slot to have a successor. */
function withoutSuccessor(hook: Hook, running: readonly Program[], { tcx }: ChainRules): Fault[] {
  const isTc = programKind(hook.direction) === 'tc';
  if (isTc && tcx) return [];
  const elsewhere = isTc ? '; this host attaches TC programs by filter, and only by TCX links could it go without' : '';
  return running
    .slice(0, -1)
    .filter(({ mapName }) => mapName === '')
    .map(({ name, path }) => {
      const needs = 'and so needs a map_name: the map that names the next program';
      const message = `${name} has a successor at ${hookKey(hook)} ${needs}${elsewhere}`;
      return { path: `${path}.map_name`, code: 'INVALID_FIELD', message };
    });
}
