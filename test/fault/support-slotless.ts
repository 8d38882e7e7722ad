import { type DesiredState, programsAt } from '../../src/domain/desired.js';
import type { Hook } from '../../src/domain/hook.js';
import type { Program } from '../../src/domain/program.js';

/*
 * TC chains that hang by several links, since programs without slot in them have successors.
 */

/** What programs called x, y and z are like at TC hooks; others have a slot. */
export function withoutSlot(name: string, { direction }: Hook): Partial<Program> {
  if (direction === 'xdpingress' || !'xyz'.includes(name)) return {};
  return { mapName: '', objectFile: 'tc_tail.bpf.o', entryFunction: 'tc_tail' };
}

/** By how many links a chain hangs: one, and another behind each program without slot that has a successor. */
export function linksOf(desired: DesiredState, hook: Hook): number {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.filter(({ mapName }, index) => mapName === '' || index === running.length - 1).length;
}

/**
 * Whether a path is one that packets may take while several links are changed: it has all the programs that are in both chains, and none
 * that is in neither.
 *
 * @param path as `name@version`; undefined if nothing is attached
 */
export function isBetween(
  path: readonly string[] | undefined,
  before: DesiredState,
  desired: DesiredState,
  hook: Hook,
): boolean {
  if (linksOf(before, hook) <= 1 && linksOf(desired, hook) <= 1) return false;
  const [old, next] = [namesAt(before, hook), namesAt(desired, hook)];
  const passed = path ?? [];
  const missesNone = old.every((program) => !next.includes(program) || passed.includes(program));
  return missesNone && passed.every((program) => old.includes(program) || next.includes(program));
}

function namesAt(desired: DesiredState, hook: Hook): string[] {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.map(({ name, version }) => `${name}@${version.replaceAll('.', '_')}`);
}
