import { DIRECTIONS } from '../domain/hook.js';
import { PROG_ARRAY } from '../domain/mapvalue.js';
import { type Generation, type MapInfo, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import { mapPin, mapSegment, publicMapPath, publicProbeMapPath, slotPin } from '../domain/pins.js';
import type { Step } from '../domain/step.js';

/**
 * The steps that bring the public map names in line with the chains as they stand: each map of a live generation is found under
 * l3afd's path, and no name of ours points at anything else. Planned from a fresh observation, since only then the maps of newly
 * loaded programs are known. Each step is atomic for whoever opens a name.
 *
 * TC ingress and egress programs of one name and version share a directory. Where both have a map of one name, and not the same one
 * (see other-side.ts), the ingress program's has the public name.
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
  const wanted = new Map<string, NamedMap>();
  const hooks = observed.hooks.toSorted(
    (a, b) => DIRECTIONS.indexOf(a.hook.direction) - DIRECTIONS.indexOf(b.hook.direction),
  );
  const staying = hooks.flatMap(standingChain).filter(({ dir }) => !doomed.has(dir));
  for (const generation of staying) {
    for (const map of mapsOf(generation, slotNames(generation))) {
      const path = publicMapPath(bpffs, { ...generation, version: generation.versionSegment }, map.name);
      if (!wanted.has(path)) wanted.set(path, map);
    }
  }
  for (const { name, versionSegment: version, dir, maps } of observedProbes(observed)) {
    if (doomed.has(dir)) continue;
    // The newest load of a name comes last.
    for (const map of dataMapsOf({ dir, maps }))
      wanted.set(publicProbeMapPath(bpffs, { name, version }, map.name), map);
  }
  const ours = new Set([
    ...observed.hooks.flatMap(({ generations }) => generations.flatMap((g) => mapsOf(g, 'slot').map(({ id }) => id))),
    ...observedProbes(observed).flatMap(({ maps }) => maps.map(({ id }) => id)),
  ]);
  // Whose pins somebody has removed, while a program of ours still uses them. They keep their names until another map is to have them.
  const lost = new Set([
    ...observed.hooks.flatMap(({ generations }) => generations.flatMap(({ unpinned }) => unpinned?.maps ?? [])),
    ...observedProbes(observed).flatMap(({ lostMaps }) => lostMaps),
  ]);
  // A root that was configured before and stays where its successor cannot be had: its slot keeps the name that it has.
  const unknown = new Set(staying.filter((one) => slotNames(one) === undefined).map(({ slot }) => slot?.mapId));
  const publish: Step[] = [...wanted]
    .filter(([path, { id }]) => observed.publicMaps.get(path) !== id)
    .filter(([path, map]) =>
      isFree(observed.publicMaps.get(path), map, new Set([...ours, ...lost]), observed.orphans ?? []),
    )
    .map(([path, { pin }]) => ({ op: 'publish', pin, path }));
  const unpublish: Step[] = [...observed.publicMaps]
    .filter(([path, id]) => !wanted.has(path) && ours.has(id) && !unknown.has(id))
    .map(([path]) => ({ op: 'unpublish', path }));
  return [...publish, ...unpublish];
}

interface NamedMap {
  readonly name: string;
  readonly pin: string;
  readonly id: number;
  readonly shape: Omit<MapInfo, 'id' | 'name'>;
}

/**
 * A name that a stranger's map has is left to it. One that no program uses, and that is like the wanted map in all that can be seen of
 * it, is what is left of a generation whose directory somebody has removed.
 */
function isFree(
  holder: number | undefined,
  { name, shape }: NamedMap,
  ours: ReadonlySet<number>,
  orphans: readonly MapInfo[],
): boolean {
  if (holder === undefined || ours.has(holder)) return true;
  const orphan = orphans.find(({ id }) => id === holder);
  if (orphan === undefined || !name.startsWith(mapSegment(orphan.name))) return false;
  return (['type', 'keySize', 'valueSize', 'maxEntries'] as const).every((field) => orphan[field] === shape[field]);
}

/** A PROG_ARRAY with one entry. */
const SLOT_SHAPE = { type: PROG_ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 };

function dataMapsOf({ dir, maps }: Pick<Generation, 'dir' | 'maps'>): NamedMap[] {
  return maps.map((map) => ({ name: map.name, pin: mapPin(dir, map.name), id: map.id, shape: map }));
}

function mapsOf({ dir, maps, slot }: Generation, slotName: string | undefined): NamedMap[] {
  const data = dataMapsOf({ dir, maps });
  if (slot === undefined || slotName === undefined) return data;
  return [...data, { name: slotName, pin: slotPin(dir), id: slot.mapId, shape: SLOT_SHAPE }];
}
