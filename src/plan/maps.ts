import { encodeMapArgs, isArrayKind } from '../domain/mapvalue.js';
import { checkMonitors, sameMonitors } from '../domain/monitor.js';
import type { Generation, MapInfo } from '../domain/observed.js';
import { mapPin, mapSegment } from '../domain/pins.js';
import { contentDigest, type MapArgs, type Program } from '../domain/program.js';
import type { Fill, WriteMapStep } from '../domain/step.js';

/** Data maps that a program finds in place, and the generation that has them pinned. */
export interface Inheritance {
  readonly from: Pick<Generation, 'dir' | 'digest'>;
  readonly maps: readonly MapInfo[];
}

/**
 * Whether a generation lacks a map that the program's arguments are for. Somebody has unpinned it, or there never was one: loading the
 * program anew makes it, or tells that the object has none.
 */
export function lacksMaps({ maps }: Pick<Generation, 'maps'>, { mapArgs }: Pick<Program, 'mapArgs'>): boolean {
  return mapArgs.some(({ name }) => !maps.some((map) => map.name === mapSegment(name)));
}

/**
 * The entries to write while a program is loaded: into the maps that are new. What is in live ones is changed by the commit, not before.
 *
 * @param taken names of the maps that it takes over
 */
export function fillOf({ mapArgs }: Program, taken: ReadonlySet<string>): Fill[] {
  return mapArgs
    .map((args, index) => ({ ...args, path: `map_args.${index}` }))
    .filter(({ name }) => !taken.has(mapSegment(name)));
}

/**
 * That what a command newly wants to be read is there in programs that stay; of others their load tells.
 *
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
 */
export function checkKeptMonitors(
  members: readonly {
    readonly program: Program;
    readonly inherited: Inheritance | undefined;
    readonly load: unknown;
    readonly stage?: unknown;
  }[],
  before: readonly Program[] | undefined,
): void {
  for (const { program, inherited, load, stage } of members) {
    if (inherited === undefined || load !== undefined || stage !== undefined) continue;
    const applied = before?.find(({ name }) => name === program.name);
    if (sameMonitors(applied?.monitors, program.monitors)) continue;
    checkMonitors(inherited.maps, program.monitors, `${program.path}.`);
  }
}

/**
 * The entries to change in maps that live on: those of programs that stay, and those that a reloaded program takes over. Only what
 * differs from the last applied arguments is written, since a program may change its own maps. A key that is no longer listed is
 * deleted from hash kinds and left in array kinds, which cannot delete.
 *
 * @throws AgentError MAP_VALUE_INVALID
 */
export function planMapChanges(
  members: readonly { readonly program: Program; readonly inherited: Inheritance | undefined }[],
  before: readonly Program[] | undefined,
): WriteMapStep[] {
  return members.flatMap(({ program, inherited }) => {
    if (inherited === undefined) return [];
    const { from, maps } = inherited;
    // Arguments of another version say nothing about these maps: the agent may have died in the middle of an update.
    const applied = before?.find((other) => other.enabled && contentDigest(other) === from.digest);
    const previous = applied?.mapArgs ?? [];
    const names = new Set([...previous, ...program.mapArgs].map((args) => args.name));
    return [...names].flatMap((name): WriteMapStep[] => {
      // One that is not taken over is new and filled when it is loaded.
      const map = maps.find((other) => other.name === mapSegment(name));
      if (map === undefined) return [];
      const wanted = program.mapArgs.findIndex((args) => args.name === name);
      const path = wanted === -1 ? program.path : `${program.path}.map_args.${wanted}`;
      const change = changeOf(map, entriesOf(previous, name), program.mapArgs[wanted], path);
      return change === undefined ? [] : [{ op: 'write-map', map: mapPin(from.dir, name), ...change, path }];
    });
  });
}

function entriesOf(all: readonly MapArgs[], name: string): MapArgs | undefined {
  return all.find((args) => args.name === name);
}

function changeOf(
  map: MapInfo,
  previous: MapArgs | undefined,
  wanted: MapArgs | undefined,
  path: string,
): Pick<WriteMapStep, 'set' | 'remove'> | undefined {
  const old = new Map((previous === undefined ? [] : encodeMapArgs(map, previous, path)).map((e) => [e.key, e.value]));
  const next = wanted === undefined ? [] : encodeMapArgs(map, wanted, path);
  const set = next.filter((entry) => old.get(entry.key) !== entry.value);
  const listed = new Set(next.map((entry) => entry.key));
  const remove = isArrayKind(map.type) ? [] : [...old.keys()].filter((key) => !listed.has(key));
  return set.length + remove.length === 0 ? undefined : { set, remove };
}
