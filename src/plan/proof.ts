import { type Observed, observedProbes } from '../domain/observed.js';
import { mapPin, probesFolder } from '../domain/pins.js';
import type { ProveStep, Step } from '../steps/step.js';
import { endedBy, traitsOf } from '../steps/traits.js';

/**
 * What must be gone from the kernel after the steps: programs, slots, maps and probes of discarded loads, and
 * detached links. It does not include a map that a remaining load also uses, or that a newly loaded one takes
 * over.
 *
 * @returns empty if nothing is removed
 */
export function proofOf(observed: Observed, steps: readonly Step[]): ProveStep[] {
  const ended = endedBy(steps);
  const takenOver = new Set(steps.flatMap((step) => traitsOf(step).pins.takesOver));
  const loadedPrograms = observed.hooks.flatMap((hook) => hook.loadedPrograms);
  const [going, staying] = [
    loadedPrograms.filter(({ dir }) => ended.has(dir)),
    loadedPrograms.filter(({ dir }) => !ended.has(dir)),
  ];
  const [goingProbes, stayingProbes] = [
    observedProbes(observed).filter(({ dir }) => ended.has(dir)),
    observedProbes(observed).filter(({ dir }) => !ended.has(dir)),
  ];
  const kept = new Set([
    ...[...staying, ...stayingProbes].flatMap(({ maps }) => maps.map(({ id }) => id)),
    ...[...going, ...goingProbes].flatMap(({ dir, maps }) =>
      maps.filter(({ name }) => takenOver.has(mapPin(dir, name))).map(({ id }) => id),
    ),
  ]);
  const probes = [...going, ...goingProbes].flatMap((one) =>
    takenOver.has(probesFolder(one.dir)) ? [] : (one.probes ?? []),
  );
  const programs = [...going, ...probes].flatMap(({ programId }) => programId ?? []);
  const maps = new Set([
    ...goingProbes.flatMap((one) => [...one.maps.map(({ id }) => id), ...one.lostMaps]),
    ...going.flatMap(({ slot, maps: data, unpinned }) => [
      ...(slot === undefined ? [] : [slot.mapId]),
      ...data.map(({ id }) => id),
      ...(unpinned?.maps ?? []),
    ]),
  ]);
  const attachments = observed.hooks.flatMap((hook) => hook.attachments);
  const links = [
    ...attachments.flatMap(({ linkId, linkPin }) => (linkId !== 0 && ended.has(linkPin) ? [linkId] : [])),
    ...probes.flatMap(({ linkId }) => linkId ?? []),
  ];
  const proof: ProveStep = { op: 'prove', programs, maps: [...maps].filter((id) => !kept.has(id)), links };
  return proof.programs.length + proof.maps.length + proof.links.length === 0 ? [] : [proof];
}
