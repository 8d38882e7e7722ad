import type { DesiredState } from '../domain/desired.js';
import { absence, absenceCode, attachPointOf, type ChainHook, hookKey, targetName } from '../domain/hook.js';
import { isPresent, type Observed } from '../domain/observed.js';
import type { Program } from '../domain/program.js';
import type { Fault } from '../errors.js';
import type { PlanContext } from './context.js';

/**
 * The kernel's limit of tail calls for one packet, MAX_TAIL_CALL_CNT in include/linux/bpf.h. The root makes the first
 * one. TCX allows 63 programs at a hook (bpf_mprog_max in include/linux/bpf_mprog.h).
 */
const LONGEST_CHAIN = 33;

/** Interfaces that a chain with enabled programs names and that do not exist on this host. */
export function absentInterfaces({ chains }: Pick<DesiredState, 'chains'>, observed: Observed): Fault[] {
  const absent = new Map<string, Fault>();
  for (const { hook, programs } of chains) {
    const program = programs.find(({ enabled }) => enabled);
    if (program === undefined || isPresent(observed, hook)) continue;
    const path = `${program.path.split('.', 1)[0]}.iface`;
    absent.set(targetName(hook), { path, code: absenceCode(hook), message: absence(hook) });
  }
  return [...absent.values()];
}

/** The part of the planning context that decides whether a desired state is possible. */
export type ChainRules = Pick<PlanContext, 'chaining' | 'ordered'>;

/**
 * Finds what makes a desired state impossible, before anything is planned. It only checks rules about the whole chain.
 * Single fields were checked when the payload was parsed.
 */
export function check(desired: DesiredState, rules: ChainRules): Fault[] {
  return desired.chains.flatMap(({ hook, programs }) => {
    const running = programs.filter((program) => program.enabled);
    const tooMany = beyondTheLongest(hook, programs);
    return [...tooMany, ...(rules.chaining ? withoutSuccessor(hook, running, rules) : beyondTheOnly(hook, running))];
  });
}

function beyondTheOnly(hook: ChainHook, running: readonly Program[]): Fault[] {
  return running.slice(1).map(({ path }) => {
    const message = `Chaining is off, so ${hookKey(hook)} holds one program; ${running[0]?.name} is already there`;
    return { path, code: 'CHAINING_OFF', message };
  });
}

/** Disabled programs count, so that each can be enabled, and so that what is desired fits into one payload. */
function beyondTheLongest(hook: ChainHook, programs: readonly Program[]): Fault[] {
  return programs.slice(LONGEST_CHAIN).map(({ name, path }) => {
    const message = `A chain holds at most ${LONGEST_CHAIN} programs, and ${name} comes after them at ${hookKey(hook)}`;
    return { path, code: 'INVALID_FIELD', message };
  });
}

/** Unless the kernel itself runs one program after the other, a program with a successor needs a slot. */
function withoutSuccessor(hook: ChainHook, running: readonly Program[], { ordered }: ChainRules): Fault[] {
  if (ordered.has(hook.direction)) return [];
  const { lacksOrder } = attachPointOf(hook);
  const elsewhere = lacksOrder === undefined ? '' : `; ${lacksOrder}`;
  return running
    .slice(0, -1)
    .filter(({ mapName }) => mapName === '')
    .map(({ name, path }) => {
      const needs = 'and so needs a map_name: the map that names the next program';
      const message = `${name} has a successor at ${hookKey(hook)} ${needs}${elsewhere}`;
      return { path: `${path}.map_name`, code: 'INVALID_FIELD', message };
    });
}
