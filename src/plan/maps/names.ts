import { ATTACH_POINT_NAMES, type ChainHook } from '../../domain/hook.js';
import { PROG_ARRAY } from '../../domain/map-types.js';
import {
  type LoadedProgram,
  type MapInfo,
  type Observed,
  observedProbes,
  standingChain,
} from '../../domain/observed.js';
import { formerMapPath, mapPin, mapSegment, publicMapPath, publicProbeMapPath, slotPin } from '../../domain/pins.js';
import type { PublishStep, Step, UnpublishStep } from '../../steps/step.js';

/**
 * The steps that bring the public map names in line with the standing chains. Each map of a live program gets the
 * name of l3afd's path, and no name of ours points at any other map. They are planned from a fresh observation, because
 * the maps of newly loaded programs are not known before. Each step is atomic for a process that opens a name.
 *
 * TC ingress and egress programs of one name and version share a directory. If both have a different map of the same
 * name (see other-side.ts), the ingress program's map gets the public name.
 *
 * Each map of a program with a companion has a second name: the one it had before l3afd's paths contained program and
 * version. Companions of that time only look there. If two programs of an interface would get the same second name,
 * neither gets it.
 *
 * @param doomed directories of the loads that are about to be discarded
 * @param namingOf what decides the names of a loaded program's maps; undefined if unknown
 */
export function planNames(
  observed: Observed,
  bpffs: string,
  doomed: ReadonlySet<string>,
  namingOf: (loaded: LoadedProgram) => Naming | undefined,
): Step[] {
  const { wanted, staying } = wantedNames(observed, bpffs, doomed, namingOf);
  const ours = ourMaps(observed);
  // A formerly configured root that stays because its successor is not available. Its slot keeps its name.
  const unknown = new Set(staying.filter((one) => namingOf(one) === undefined).map(({ slot }) => slot?.mapId));
  const publish: PublishStep[] = [...wanted]
    .filter(([path, { id }]) => observed.publicMaps.get(path) !== id && !isOtherPin(observed, path))
    .filter(([path, map]) =>
      isFree(observed.publicMaps.get(path), map, new Set([...ours, ...lostMapsOf(observed)]), observed.orphans ?? []),
    )
    .map(([path, { pin }]) => ({ op: 'publish', pin, path }));
  const unpublish: UnpublishStep[] = [...observed.publicMaps]
    .filter(([path, id]) => !wanted.has(path) && ours.has(id) && !unknown.has(id))
    .filter(([path, id]) => !isSomebodysFormer(path, id, observed, bpffs))
    .map(([path]) => ({ op: 'unpublish', path }));
  // A second name that is in the way of a program's folder is removed first.
  const inTheWay = unpublish.filter((step) => publish.some(({ path }) => path.startsWith(`${step.path}/`)));
  return [...inTheWay, ...publish, ...unpublish.filter((step) => !inTheWay.includes(step))];
}

/** The maps that get public names, by these names, and the programs that stay. */
function wantedNames(
  observed: Observed,
  bpffs: string,
  doomed: ReadonlySet<string>,
  namingOf: (loaded: LoadedProgram) => Naming | undefined,
): { wanted: ReadonlyMap<string, NamedMap>; staying: readonly LoadedProgram[] } {
  const wanted = new Map<string, NamedMap>();
  const hooks = observed.hooks.toSorted(
    (a, b) => ATTACH_POINT_NAMES.indexOf(a.hook.direction) - ATTACH_POINT_NAMES.indexOf(b.hook.direction),
  );
  const staying = hooks.flatMap(standingChain).filter(({ dir }) => !doomed.has(dir));
  for (const loaded of staying) {
    for (const map of mapsOf(loaded, namingOf(loaded)?.slotMap)) {
      const path = publicMapPath(bpffs, { ...loaded, version: loaded.versionSegment }, map.name);
      if (!wanted.has(path)) wanted.set(path, map);
    }
  }
  for (const [path, map] of formerNames(staying, bpffs, namingOf)) wanted.set(path, map);
  for (const { name, versionSegment: version, dir, maps } of observedProbes(observed)) {
    if (doomed.has(dir)) continue;
    // The newest load of a name comes last and wins.
    for (const map of dataMapsOf({ dir, maps }))
      wanted.set(publicProbeMapPath(bpffs, { name, version }, map.name), map);
  }
  return { wanted, staying };
}

/**
 * Maps whose pins somebody has removed while a program of ours still uses them. They keep their names until another map
 * needs the name.
 */
function lostMapsOf(observed: Observed): number[] {
  return [
    ...observed.hooks.flatMap(({ loadedPrograms }) => loadedPrograms.flatMap(({ unpinned }) => unpinned?.maps ?? [])),
    ...observedProbes(observed).flatMap(({ lostMaps }) => lostMaps),
  ];
}

function ourMaps(observed: Observed): ReadonlySet<number> {
  return new Set([
    ...observed.hooks.flatMap(({ loadedPrograms }) =>
      loadedPrograms.flatMap((loaded) => mapsOf(loaded, 'slot').map(({ id }) => id)),
    ),
    ...observedProbes(observed).flatMap(({ maps }) => maps.map(({ id }) => id)),
  ]);
}

/**
 * The public names that others hold, after a pass: their pins are left alone, and companions find them in place of the
 * program's maps.
 *
 * @returns sentences
 */
export function takenNames(
  observed: Observed,
  bpffs: string,
  namingOf: (loaded: LoadedProgram) => Naming | undefined,
): string[] {
  const { wanted } = wantedNames(observed, bpffs, new Set(), namingOf);
  const ours = new Set([...ourMaps(observed), ...lostMapsOf(observed)]);
  return [...wanted].flatMap(([path, { id }]) => {
    const holder = observed.publicMaps.get(path);
    const isTaken = isOtherPin(observed, path) || (holder !== undefined && holder !== id && !ours.has(holder));
    const what = holder === undefined ? 'an object that is no map' : `map ${holder}`;
    return isTaken
      ? [`${path} is ${what}, which is not ours: companions open that instead of the map of the program; remove it`]
      : [];
  });
}

function isOtherPin({ otherPins }: Observed, path: string): boolean {
  return otherPins?.has(path) === true;
}

/** What decides the names of a loaded program's maps, besides what can be observed. */
export interface Naming {
  /** The slot's map name; '' for none. */
  readonly slotMap: string;
  readonly hasCompanion: boolean;
}

function formerNames(
  staying: readonly LoadedProgram[],
  bpffs: string,
  namingOf: (loaded: LoadedProgram) => Naming | undefined,
): Map<string, NamedMap> {
  const named = new Map<string, NamedMap & { readonly owner: string }>();
  // The folder of a program is in the way of a map with the same name.
  const taken = new Set(staying.map(({ hook, name }) => formerMapPath(bpffs, hook, name)));
  // Maps of a program that a companion has loaded are pinned by the companion itself.
  for (const loaded of staying.filter(({ handedOver }) => handedOver === undefined)) {
    const naming = namingOf(loaded);
    if (naming?.hasCompanion !== true) continue;
    const owner = `${loaded.name}/${loaded.versionSegment}`;
    for (const map of mapsOf(loaded, naming.slotMap)) {
      const path = formerMapPath(bpffs, loaded.hook, map.name);
      const other = named.get(path);
      if (other === undefined) named.set(path, { ...map, owner });
      else if (other.id !== map.id && other.owner !== owner) taken.add(path);
    }
  }
  return new Map([...named].filter(([path]) => !taken.has(path)));
}

/**
 * Whether a second name was not made by the agent. A name from the agent is the name of the map, and the map belongs to
 * a program that the agent has loaded.
 */
function isSomebodysFormer(path: string, id: number, { hooks }: Pick<Observed, 'hooks'>, bpffs: string): boolean {
  const isAmong = (hook: ChainHook) => formerMapPath(bpffs, hook, '') === path.slice(0, path.lastIndexOf('/') + 1);
  const here = hooks.filter(({ hook }) => isAmong(hook));
  const loaded = here.flatMap(({ loadedPrograms }) =>
    loadedPrograms.filter(({ handedOver }) => handedOver === undefined),
  );
  // An agent that died while it set a name has left a temporary one.
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
 * Whether a map may take over a name. A name of a foreign map is left alone. But a map that no program uses, and that
 * looks exactly like the wanted map, is left from a load whose directory somebody has removed. Its name may be
 * taken over.
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

function dataMapsOf({ dir, maps }: Pick<LoadedProgram, 'dir' | 'maps'>): NamedMap[] {
  return maps.map((map) => ({ name: map.name, pin: mapPin(dir, map.name), id: map.id, shape: map }));
}

function mapsOf({ dir, maps, slot }: LoadedProgram, slotName: string | undefined): NamedMap[] {
  const data = dataMapsOf({ dir, maps });
  if (slot === undefined || slotName === undefined) return data;
  return [...data, { name: slotName, pin: slotPin(dir), id: slot.mapId, shape: SLOT_SHAPE }];
}
