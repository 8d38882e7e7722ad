import { DIRECTIONS, type Hook } from '../domain/hook.js';
import { PROG_ARRAY } from '../domain/mapvalue.js';
import { type Generation, type MapInfo, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import { formerMapPath, mapPin, mapSegment, publicMapPath, publicProbeMapPath, slotPin } from '../domain/pins.js';
import type { PublishStep, Step, UnpublishStep } from '../domain/step.js';

/**
 * The steps that bring the public map names in line with the chains as they stand: each map of a live generation is found under
 * l3afd's path, and no name of ours points at anything else. Planned from a fresh observation, since only then the maps of newly
 * loaded programs are known. Each step is atomic for whoever opens a name.
 *
 * TC ingress and egress programs of one name and version share a directory. Where both have a map of one name, and not the same one
 * (see other-side.ts), the ingress program's has the public name.
 *
 * Maps of programs with a companion have a further name each, as they had before l3afd told programs and versions apart in its paths:
 * the companions of that time look nowhere else. Where two programs of an interface would have one name, neither has it.
 *
 * @param doomed directories of the generations that are about to be discarded
 * @param namingOf what is to be known of the program of each generation
 */
export function planNames(
  observed: Observed,
  bpffs: string,
  doomed: ReadonlySet<string>,
  namingOf: (generation: Generation) => Naming | undefined,
): Step[] {
  const wanted = new Map<string, NamedMap>();
  const hooks = observed.hooks.toSorted(
    (a, b) => DIRECTIONS.indexOf(a.hook.direction) - DIRECTIONS.indexOf(b.hook.direction),
  );
  const staying = hooks.flatMap(standingChain).filter(({ dir }) => !doomed.has(dir));
  for (const generation of staying) {
    for (const map of mapsOf(generation, namingOf(generation)?.slotMap)) {
      const path = publicMapPath(bpffs, { ...generation, version: generation.versionSegment }, map.name);
      if (!wanted.has(path)) wanted.set(path, map);
    }
  }
  for (const [path, map] of formerNames(staying, bpffs, namingOf)) wanted.set(path, map);
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
  const unknown = new Set(staying.filter((one) => namingOf(one) === undefined).map(({ slot }) => slot?.mapId));
  const publish: PublishStep[] = [...wanted]
    .filter(([path, { id }]) => observed.publicMaps.get(path) !== id)
    .filter(([path, map]) =>
      isFree(observed.publicMaps.get(path), map, new Set([...ours, ...lost]), observed.orphans ?? []),
    )
    .map(([path, { pin }]) => ({ op: 'publish', pin, path }));
  const unpublish: UnpublishStep[] = [...observed.publicMaps]
    .filter(([path, id]) => !wanted.has(path) && ours.has(id) && !unknown.has(id))
    .filter(([path, id]) => !isSomebodysFormer(path, id, observed, bpffs))
    .map(([path]) => ({ op: 'unpublish', path }));
  // A further name that stands where a program's folder is to be.
  const inTheWay = unpublish.filter((step) => publish.some(({ path }) => path.startsWith(`${step.path}/`)));
  return [...inTheWay, ...publish, ...unpublish.filter((step) => !inTheWay.includes(step))];
}

/** What the names of a generation's maps depend on, beside what can be seen of it. */
export interface Naming {
  /** The slot's map name; '' for none. */
  readonly slotMap: string;
  readonly hasCompanion: boolean;
}

function formerNames(
  staying: readonly Generation[],
  bpffs: string,
  namingOf: (generation: Generation) => Naming | undefined,
): Map<string, NamedMap> {
  const named = new Map<string, NamedMap & { readonly owner: string }>();
  // The folder of a program stands in the way of a map that is called alike.
  const taken = new Set(staying.map(({ hook, name }) => formerMapPath(bpffs, hook, name)));
  // What a companion has loaded, it has pinned itself.
  for (const generation of staying.filter(({ staged }) => staged === undefined)) {
    const naming = namingOf(generation);
    if (naming?.hasCompanion !== true) continue;
    const owner = `${generation.name}/${generation.versionSegment}`;
    for (const map of mapsOf(generation, naming.slotMap)) {
      const path = formerMapPath(bpffs, generation.hook, map.name);
      const other = named.get(path);
      if (other === undefined) named.set(path, { ...map, owner });
      else if (other.id !== map.id && other.owner !== owner) taken.add(path);
    }
  }
  return new Map([...named].filter(([path]) => !taken.has(path)));
}

/** Whether a name among the further ones is not of the agent's making: what it gives has the map's name, and is of a program that it has loaded. */
function isSomebodysFormer(path: string, id: number, { hooks }: Pick<Observed, 'hooks'>, bpffs: string): boolean {
  const isAmong = (hook: Hook) => formerMapPath(bpffs, hook, '') === path.slice(0, path.lastIndexOf('/') + 1);
  const here = hooks.filter(({ hook }) => isAmong(hook));
  const loaded = here.flatMap(({ generations }) => generations.filter(({ staged }) => staged === undefined));
  // An agent that died while it gave a name has left the temporary one.
  const given = path.replace(/%new$/, '');
  const isOurs = loaded.some(({ hook, maps, slot }) => {
    return slot?.mapId === id || maps.some((map) => map.id === id && formerMapPath(bpffs, hook, map.name) === given);
  });
  return here.length > 0 && !isOurs;
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
