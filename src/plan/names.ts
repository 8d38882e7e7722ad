import { DIRECTIONS } from '../domain/hook.js';
import { type Generation, type Observed, standingChain } from '../domain/observed.js';
import { mapPin, publicMapPath, slotPin } from '../domain/pins.js';
import type { Step } from '../domain/step.js';

/**
 * The steps that bring the public map names in line with the chains as they stand: each map of a live generation is found under
 * l3afd's path, and no name of ours points at anything else. Planned from a fresh observation, since only then the maps of newly
 * loaded programs are known. Each step is atomic for whoever opens a name.
 *
 * TC ingress and egress programs of one name and version share a directory. Where both have a map of one name, the ingress program's
 * has the public name.
 *
 * @param doomed directories of the generations that are about to be discarded
 * @param slotNames the slot's map name for each generation
 */
export function planNames(
  observed: Observed,
  bpffs: string,
  doomed: ReadonlySet<string>,
  slotNames: (generation: Generation) => string | undefined,
): Step[] {
  const wanted = new Map<string, { pin: string; id: number }>();
  const hooks = observed.hooks.toSorted(
    (a, b) => DIRECTIONS.indexOf(a.hook.direction) - DIRECTIONS.indexOf(b.hook.direction),
  );
  for (const generation of hooks.flatMap(standingChain)) {
    if (doomed.has(generation.dir)) continue;
    for (const { name, pin, id } of mapsOf(generation, slotNames(generation))) {
      const path = publicMapPath(bpffs, { ...generation, version: generation.versionSegment }, name);
      if (!wanted.has(path)) wanted.set(path, { pin, id });
    }
  }
  const ours = new Set(
    observed.hooks.flatMap(({ generations }) => generations.flatMap((g) => mapsOf(g, 'slot').map(({ id }) => id))),
  );
  const publish: Step[] = [...wanted]
    .filter(([path, { id }]) => observed.publicMaps.get(path) !== id)
    .filter(([path]) => isFree(observed.publicMaps.get(path), ours))
    .map(([path, { pin }]) => ({ op: 'publish', pin, path }));
  const unpublish: Step[] = [...observed.publicMaps]
    .filter(([path, id]) => !wanted.has(path) && ours.has(id))
    .map(([path]) => ({ op: 'unpublish', path }));
  return [...publish, ...unpublish];
}

/** A name that a stranger's map has is left to it. */
function isFree(holder: number | undefined, ours: ReadonlySet<number>): boolean {
  return holder === undefined || ours.has(holder);
}

function mapsOf(generation: Generation, slotName: string | undefined): { name: string; pin: string; id: number }[] {
  const maps = generation.maps.map((map) => ({ name: map.name, pin: mapPin(generation.dir, map.name), id: map.id }));
  if (generation.slot === undefined || slotName === undefined) return maps;
  return [...maps, { name: slotName, pin: slotPin(generation.dir), id: generation.slot.mapId }];
}
