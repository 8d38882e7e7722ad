import type { Observed } from '../domain/observed.js';
import { mapPin } from '../domain/pins.js';
import type { ProveStep, Step } from '../domain/step.js';

/**
 * What has to be gone from the kernel when the steps are done: programs, slots and maps of the generations that are discarded, and the
 * links that are detached. A map that a generation which stays has too, or one that is loaded takes over, is not among it.
 *
 * @returns nothing where nothing is taken away
 */
export function proofOf(observed: Observed, steps: readonly Step[]): ProveStep[] {
  const discarded = new Set(steps.flatMap((step) => (step.op === 'discard' ? [step.dir] : [])));
  const detached = new Set(steps.flatMap((step) => (step.op === 'detach' ? [step.link] : [])));
  const shared = new Set(steps.flatMap((step) => (step.op === 'load' ? step.share.map(({ pin }) => pin) : [])));
  const generations = observed.hooks.flatMap((hook) => hook.generations);
  const [going, staying] = [
    generations.filter(({ dir }) => discarded.has(dir)),
    generations.filter(({ dir }) => !discarded.has(dir)),
  ];
  const kept = new Set([
    ...staying.flatMap(({ maps }) => maps.map(({ id }) => id)),
    ...going.flatMap(({ dir, maps }) => maps.filter(({ name }) => shared.has(mapPin(dir, name))).map(({ id }) => id)),
  ]);
  const programs = going.flatMap(({ programId }) => programId ?? []);
  const maps = new Set(
    going.flatMap(({ slot, maps: data, unpinned }) => [
      ...(slot === undefined ? [] : [slot.mapId]),
      ...data.map(({ id }) => id),
      ...(unpinned?.maps ?? []),
    ]),
  );
  const links = observed.hooks
    .flatMap(({ attachments }) => attachments)
    .filter(({ linkId, linkPin }) => linkId !== 0 && detached.has(linkPin))
    .map(({ linkId }) => linkId);
  const proof: ProveStep = { op: 'prove', programs, maps: [...maps].filter((id) => !kept.has(id)), links };
  return proof.programs.length + proof.maps.length + proof.links.length === 0 ? [] : [proof];
}
