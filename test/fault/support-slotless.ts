import { type DesiredState, programsAt } from '../../src/domain/desired.js';
import type { ChainHook } from '../../src/domain/hook.js';
import type { Program } from '../../src/domain/program.js';

/*
 * TC chains with several links, since programs without a slot are followed by others.
 */

/** Properties of programs x, y and z at TC hooks. Others have a slot. */
export function withoutSlot(name: string, { direction }: ChainHook): Partial<Program> {
  if (direction === 'xdpingress' || !'xyz'.includes(name)) return {};
  return { mapName: '', objectFile: 'tc_tail.bpf.o', entryFunction: 'tc_tail' };
}

/** How many links a chain has: one, and another behind each program without a slot that is not the last. */
export function linksOf(desired: DesiredState, hook: ChainHook): number {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.filter(({ mapName }, index) => mapName === '' || index === running.length - 1).length;
}

/**
 * Whether packets may take a path while several links are changed: it contains all programs that are in both chains,
 * and none that is in neither.
 *
 * @param path as `name@version`; undefined if nothing is attached
 */
export function isBetween(
  path: readonly string[] | undefined,
  before: DesiredState,
  desired: DesiredState,
  hook: ChainHook,
): boolean {
  if (linksOf(before, hook) <= 1 && linksOf(desired, hook) <= 1) return false;
  const [old, next] = [namesAt(before, hook), namesAt(desired, hook)];
  const passed = path ?? [];
  const missesNone = old.every((program) => !next.includes(program) || passed.includes(program));
  return missesNone && passed.every((program) => old.includes(program) || next.includes(program));
}

function namesAt(desired: DesiredState, hook: ChainHook): string[] {
  const running = programsAt(desired, hook).filter(({ enabled }) => enabled);
  return running.map(({ name, version }) => `${name}@${version.replaceAll('.', '_')}`);
}
