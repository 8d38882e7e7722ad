import { type Observed, observedProbes } from '../domain/observed.js';
import { mapPin } from '../domain/pins.js';
import type { ProveStep, Step } from '../domain/step.js';

/**
 * What has to be gone from the kernel when the steps are done: programs, slots, maps and probes of what is discarded, and the links that
 * are detached. A map that a generation which stays has too, or one that is loaded takes over, is not among it.
 *
 * @returns nothing where nothing is taken away
 */
export function proofOf(observed: Observed, steps: readonly Step[]): ProveStep[] {
  const discarded = new Set(steps.flatMap((step) => (step.op === 'discard' ? [step.dir] : [])));
  const detached = new Set(steps.flatMap((step) => (step.op === 'detach' ? [step.link] : [])));
  const shared = new Set(steps.flatMap((step) => ('share' in step ? step.share.map(({ pin }) => pin) : [])));
  const generations = observed.hooks.flatMap((hook) => hook.generations);
  const [going, staying] = [
    generations.filter(({ dir }) => discarded.has(dir)),
    generations.filter(({ dir }) => !discarded.has(dir)),
  ];
  const [goingProbes, stayingProbes] = [
    observedProbes(observed).filter(({ dir }) => discarded.has(dir)),
    observedProbes(observed).filter(({ dir }) => !discarded.has(dir)),
  ];
  const kept = new Set([
    ...[...staying, ...stayingProbes].flatMap(({ maps }) => maps.map(({ id }) => id)),
    ...[...going, ...goingProbes].flatMap(({ dir, maps }) =>
      maps.filter(({ name }) => shared.has(mapPin(dir, name))).map(({ id }) => id),
    ),
  ]);
  const moved = new Set(steps.flatMap((step) => (step.op === 'move-probes' ? [step.from] : [])));
  const probes = [...going, ...goingProbes].flatMap((one) => (moved.has(one.dir) ? [] : (one.probes ?? [])));
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
    ...attachments.flatMap(({ linkId, linkPin }) => (linkId !== 0 && detached.has(linkPin) ? [linkId] : [])),
    ...probes.flatMap(({ linkId }) => linkId ?? []),
  ];
  const proof: ProveStep = { op: 'prove', programs, maps: [...maps].filter((id) => !kept.has(id)), links };
  return proof.programs.length + proof.maps.length + proof.links.length === 0 ? [] : [proof];
}
