import type { Generation } from '../../domain/observed.js';
import { mapPin, programPin } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import { type Fd, tryOpenId, tryOpenPin } from './fd.js';
import { mapIdsOf, mapInfo, programInfo } from './info.js';
import { declaredName } from './layouts.js';
import { makeParents, pin, pinInPlace } from './pins.js';

/*
 * Pins that somebody has removed. What a running program uses stays in the kernel, and so can be found by the program and pinned again.
 */

/** A generation and what its program uses without its being pinned there. */
export function withUnpinnedMaps(generation: Generation, program: Fd): Generation {
  const { slot, maps } = generation;
  const pinned = new Set([slot?.mapId, ...maps.map(({ id }) => id)]);
  const lost = [...mapIdsOf(program.number)].filter((id) => !pinned.has(id));
  return lost.length === 0 ? generation : { ...generation, unpinned: { program: false, maps: lost } };
}

/**
 * A generation whose program is not pinned, with the program if that runs on: it is the one that uses the generation's slot, or where
 * there is none, one of its maps.
 *
 * @param running ids of programs that run at the generation's hook
 */
export function withLostProgram(generation: Generation, running: readonly number[]): Generation {
  const { slot, maps } = generation;
  const marks = slot === undefined ? maps.map(({ id }) => id) : [slot.mapId];
  for (const programId of running) {
    using program = tryOpenId('prog', programId);
    const used = program === undefined ? new Set<number>() : mapIdsOf(program.number);
    if (program === undefined || !marks.some((id) => used.has(id))) continue;
    const found = withUnpinnedMaps({ ...generation, programId }, program);
    return { ...found, unpinned: { program: true, maps: found.unpinned?.maps ?? [] } };
  }
  return generation;
}

/** See `Datapath.repin`. */
export function repin(dir: string, programId: number, mapIds: readonly number[]): void {
  using pinned = tryOpenPin('prog', programPin(dir));
  using found = pinned === undefined ? tryOpenId('prog', programId) : undefined;
  const program = pinned ?? found;
  if (program === undefined || programInfo(program.number).id !== programId) {
    throw new AgentError('KERNEL', `Program ${programId} of ${dir} is gone, so that nothing of it can be pinned again`);
  }
  const used = mapIdsOf(program.number);
  for (const id of mapIds) {
    if (!used.has(id)) throw new AgentError('KERNEL', `Program ${programId} of ${dir} does not use map ${id}`);
    using map = tryOpenId('map', id);
    if (map === undefined) throw new AgentError('KERNEL', `Map ${id} of ${dir} is gone`);
    const path = mapPin(dir, declaredName(map.number));
    makeParents(path);
    using other = tryOpenPin('map', path);
    // Two maps of it may have names that are alike once the kernel has cut them.
    if (other !== undefined && used.has(mapInfo(other.number).id)) pin(map.number, path);
    else pinInPlace(map.number, path);
  }
  if (pinned === undefined) pinInPlace(program.number, programPin(dir));
}
