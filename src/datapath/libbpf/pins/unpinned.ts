import type { LoadedProgram } from '../../../domain/observed.js';
import { mapPin, programPin } from '../../../domain/pins.js';
import { AgentError } from '../../../errors.js';
import { type Fd, tryOpenId, tryOpenPin } from '../abi/fd.js';
import { mapIdsOf, mapInfo, programInfo } from '../abi/info.js';
import { declaredName } from '../maps/layouts.js';
import { makeParents, pin, pinInPlace } from './pins.js';

/*
 * Pins that were removed by others. What a running program uses stays in the kernel, so it can be found through the
 * program and pinned again.
 */

/**
 * Ids of the maps that a program uses and that are not pinned with it.
 *
 * @param pinned the id of its slot's map, and its other maps
 */
export function unpinnedMaps(
  { slot, maps }: { readonly slot: number | undefined; readonly maps: LoadedProgram['maps'] },
  program: Fd,
): number[] {
  const pinned = new Set([slot, ...maps.map(({ id }) => id)]);
  return [...mapIdsOf(program.number)].filter((id) => !pinned.has(id));
}

/**
 * A load whose program is not pinned, with that program if it still runs: the program that uses the load's slot or,
 * without a slot, one of its maps.
 *
 * @param running ids of programs that run at its hook
 */
export function withLostProgram(loaded: LoadedProgram, running: readonly number[]): LoadedProgram {
  const { slot, maps } = loaded;
  const marks = slot === undefined ? maps.map(({ id }) => id) : [slot.mapId];
  for (const programId of running) {
    using program = tryOpenId('prog', programId);
    const used = program === undefined ? new Set<number>() : mapIdsOf(program.number);
    if (program === undefined || !marks.some((id) => used.has(id))) continue;
    const lost = unpinnedMaps({ slot: slot?.mapId, maps }, program);
    return { ...loaded, programId, unpinned: { program: true, maps: lost } };
  }
  return loaded;
}

/** See `Datapath.repin`. */
export function repin(dir: string, programId: number, mapIds: readonly number[]): void {
  using pinned = tryOpenPin('prog', programPin(dir));
  using found = pinned === undefined ? tryOpenId('prog', programId) : undefined;
  const program = pinned ?? found;
  if (program === undefined || programInfo(program.number).id !== programId) {
    throw new AgentError('KERNEL', `Program ${programId} of ${dir} is gone, so it cannot be pinned again`);
  }
  const used = mapIdsOf(program.number);
  for (const id of mapIds) {
    if (!used.has(id)) throw new AgentError('KERNEL', `Program ${programId} of ${dir} does not use map ${id}`);
    using map = tryOpenId('map', id);
    if (map === undefined) throw new AgentError('KERNEL', `Map ${id} of ${dir} is gone`);
    const path = mapPin(dir, declaredName(map.number));
    makeParents(path);
    using other = tryOpenPin('map', path);
    // Two of its maps may have the same name, because the kernel truncates names.
    if (other !== undefined && used.has(mapInfo(other.number).id)) pin(map.number, path);
    else pinInPlace(map.number, path);
  }
  if (pinned === undefined) pinInPlace(program.number, programPin(dir));
}
