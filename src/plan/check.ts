import type { DesiredState } from '../domain/desired.js';
import { hookKey } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Fault } from '../errors.js';

/** Tail calls that the kernel allows one packet, MAX_TAIL_CALL_CNT in include/linux/bpf.h; the root makes the first. */
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

/**
 * What speaks against a desired state before anything is planned. Only what holds for the whole chain is looked at here; single
 * fields were checked when the payload was parsed.
 */
export function check(desired: DesiredState, chaining: boolean): Fault[] {
  return desired.chains.flatMap(({ hook, programs }) => {
    const running = programs.filter((program) => program.enabled);
    const faults: Fault[] = [];
    const [first] = running;
    if (!chaining) {
      for (const program of running.slice(1)) {
        const message = `Chaining is off, so ${hookKey(hook)} holds one program; ${first?.name} is there already`;
        faults.push({ path: program.path, code: 'CHAINING_OFF', message });
      }
      return faults;
    }
    for (const program of running.slice(LONGEST_CHAIN)) {
      const message = `A chain holds at most ${LONGEST_CHAIN} programs, and ${program.name} comes after them at ${hookKey(hook)}`;
      faults.push({ path: program.path, code: 'INVALID_FIELD', message });
    }
    for (const program of running.slice(0, -1)) {
      if (program.mapName !== '') continue;
      const message = `${program.name} has a successor at ${hookKey(hook)} and so needs a map_name: the map that names the next program`;
      faults.push({ path: `${program.path}.map_name`, code: 'INVALID_FIELD', message });
    }
    return faults;
  });
}
