import { isArrayKind } from '../../domain/map-types.js';
import { encodeMapArgs, holds, type Interfaces, isConstant, named, type RawEntry } from '../../domain/mapvalue.js';
import { checkMonitors, keysToMake, sameMonitors } from '../../domain/monitor.js';
import type { LoadedProgram, MapInfo, StoredEntries } from '../../domain/observed.js';
import { mapPin } from '../../domain/pins.js';
import { contentDigest, type MapArgs, type Program } from '../../domain/program.js';
import { AgentError } from '../../errors.js';
import type { LocatedMapArgs, WriteMapStep } from '../../steps/step.js';

/** Data maps that already exist for a program, and the load that has them pinned. */
export interface Inheritance {
  readonly from: Pick<LoadedProgram, 'dir' | 'digest'>;
  readonly maps: readonly MapInfo[];
}

/** What is known of the live maps and of this host; see {@link Observed}. */
export interface Ground {
  readonly interfaces: Interfaces;
  readonly entries?: ReadonlyMap<string, StoredEntries>;
}

/**
 * Whether a load lacks a map or a global variable that the program's `map_args` name. Either somebody has unpinned
 * the map, or it never existed. Loading the program again creates the map, or reports that the object has none.
 */
export function lacksMaps({ maps }: Pick<LoadedProgram, 'maps'>, { mapArgs }: Pick<Program, 'mapArgs'>): boolean {
  return mapArgs.some(({ name }) => named(maps, name) === undefined);
}

/**
 * The maps of load-time constants in which a load does not have the values that the program's `map_args` ask for.
 * The kernel has frozen them, so other values need another load.
 *
 * @throws AgentError MAP_VALUE_INVALID
 */
export function staleConstants(
  { dir, maps, digest }: Pick<LoadedProgram, 'dir' | 'maps' | 'digest'>,
  program: Program,
  before: readonly Program[] | undefined,
  { interfaces, entries }: Ground,
): readonly MapInfo[] {
  const previous = appliedTo(digest, before)?.mapArgs ?? [];
  return maps.filter(isConstant).filter((map) => {
    const stored = entries?.get(mapPin(dir, map.name));
    const asked = [...program.mapArgs.entries()].filter(([, { name }]) => named(maps, name)?.map === map);
    const differs = asked.some(([index, args]) => {
      if (stored === undefined) return !sameArgs(entriesOf(previous, args.name), args);
      const wanted = encodeMapArgs(map, args, `${program.path}.map_args.${index}`, interfaces);
      return wanted.some((entry) => !holds(map, entry, stored.get(entry.key)));
    });
    // What is no longer listed gets the value back that the object gives it.
    const isDropped = previous.some(({ name }) => {
      return named(maps, name)?.map === map && entriesOf(program.mapArgs, name) === undefined;
    });
    return differs || isDropped;
  });
}

/** Whether a program runs with other load-time constants than it asks for. */
export function hasOtherConstants(
  program: Program,
  standing: readonly Pick<LoadedProgram, 'dir' | 'maps' | 'digest'>[],
  { before, ground }: { readonly before: readonly Program[] | undefined; readonly ground: Ground },
): boolean {
  const digest = contentDigest(program);
  const same = standing.find((loaded) => loaded.digest === digest);
  return same !== undefined && staleConstants(same, program, before, ground).length > 0;
}

/**
 * The entries to write while a program is loaded, for new maps only. Entries of live maps are changed by the commit,
 * not before.
 *
 * @param taken the maps that it takes over
 * @param before what was last applied: such an entry waits for its interface, a new one is refused without
 */
export function fillOf(
  { name: program, mapArgs }: Program,
  taken: readonly MapInfo[],
  before: readonly Program[] | undefined,
): LocatedMapArgs[] {
  const previous = before?.find(({ name }) => name === program)?.mapArgs ?? [];
  return mapArgs
    .map((args, index): LocatedMapArgs => {
      const mayWait = sameArgs(entriesOf(previous, args.name), args);
      return { ...args, path: `map_args.${index}`, ...(mayWait && { mayWait }) };
    })
    .filter(({ name }) => named(taken, name) === undefined);
}

/**
 * Checks that programs that stay have the maps that a command newly asks to monitor. For other programs, the load
 * checks this.
 *
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
 */
export function checkKeptMonitors(
  members: readonly {
    readonly program: Program;
    readonly inherited: Inheritance | undefined;
    readonly load: unknown;
    readonly handover?: unknown;
  }[],
  before: readonly Program[] | undefined,
): void {
  for (const { program, inherited, load, handover } of members) {
    if (inherited === undefined || load !== undefined || handover !== undefined) continue;
    const applied = before?.find(({ name }) => name === program.name);
    if (sameMonitors(applied?.monitors, program.monitors)) continue;
    checkMonitors(inherited.maps, program.monitors, `${program.path}.`);
  }
}

/**
 * The changes of maps that live on: maps of programs that stay, and maps that a reloaded program takes over. What is
 * compared is the live map: an entry of `map_args` that is missing or has another value is written. A key that is no
 * longer listed is deleted from hash maps. It stays in array maps, which cannot delete keys. Keys that are monitored are
 * made when a program is loaded or a command newly names them.
 *
 * @throws AgentError MAP_VALUE_INVALID for what a command asks for and what does not fit. What was applied before does
 *   not hinder: if an interface is gone that an entry is for, the entry waits for it
 */
export function planMapChanges(
  members: readonly {
    readonly program: Program;
    readonly inherited: Inheritance | undefined;
    readonly load: unknown;
    readonly handover?: unknown;
  }[],
  before: readonly Program[] | undefined,
  ground: Ground,
): WriteMapStep[] {
  return members.flatMap(({ program, inherited, load, handover }) => {
    if (inherited === undefined) return [];
    const { from, maps } = inherited;
    const previous = appliedTo(from.digest, before)?.mapArgs ?? [];
    const names = new Set([...previous, ...program.mapArgs].map((args) => args.name));
    const writes = [...names].flatMap((name): WriteMapStep[] => {
      // A map that is not taken over is new. It is filled during the load.
      const map = named(maps, name)?.map;
      if (map === undefined || isConstant(map)) return [];
      const index = program.mapArgs.findIndex((args) => args.name === name);
      const wanted = program.mapArgs[index];
      const path = index === -1 ? program.path : `${program.path}.map_args.${index}`;
      const pin = mapPin(from.dir, map.name);
      const change = changeOf(map, entriesOf(previous, name), wanted, path, {
        ...ground,
        stored: ground.entries?.get(pin),
      });
      return change === undefined ? [] : [{ op: 'write-map', map: pin, ...change, path }];
    });
    const applied = before?.find(({ name }) => name === program.name);
    const isNewlyMonitored = load !== undefined || !sameMonitors(applied?.monitors, program.monitors);
    if (!isNewlyMonitored || handover !== undefined) return writes;
    const made = keysToMake(maps, program.monitors, `${program.path}.`).flatMap(({ map, keys }): WriteMapStep[] => {
      const [pin, path] = [mapPin(from.dir, map.name), `${program.path}.monitor_maps`];
      const make = keys.filter((key) => typeof ground.entries?.get(pin)?.get(key) !== 'string');
      return make.length === 0 ? [] : [{ op: 'write-map', map: pin, set: [], remove: [], make, path }];
    });
    return [...writes, ...made];
  });
}

/** Arguments of another version say nothing about maps: the agent may have died in the middle of an update. */
function appliedTo(digest: string, before: readonly Program[] | undefined): Program | undefined {
  return before?.find((other) => other.enabled && contentDigest(other) === digest);
}

function entriesOf(all: readonly MapArgs[], name: string): MapArgs | undefined {
  return all.find((args) => args.name === name);
}

function sameArgs(one: MapArgs | undefined, other: MapArgs | undefined): boolean {
  return JSON.stringify(one?.args) === JSON.stringify(other?.args);
}

/** @param stored what the live map holds; undefined if it could not be read */
function changeOf(
  map: MapInfo,
  previous: MapArgs | undefined,
  wanted: MapArgs | undefined,
  path: string,
  { interfaces, stored }: Pick<Ground, 'interfaces'> & { readonly stored: StoredEntries | undefined },
): Pick<WriteMapStep, 'set' | 'remove'> | undefined {
  const old = new Map(formerEntries(map, previous, interfaces).map((entry) => [placeOf(entry), entry]));
  const isApplied = sameArgs(previous, wanted);
  const next = isApplied
    ? formerEntries(map, wanted, interfaces)
    : wantedEntries(map, wanted, path, { interfaces, old });
  const isThere = (entry: RawEntry) =>
    stored === undefined ? old.get(placeOf(entry))?.value === entry.value : holds(map, entry, stored.get(entry.key));
  const set = next
    .filter((entry) => entry.waits === undefined && !isThere(entry))
    .map(({ key, value, offset }) => ({ key, value, ...(offset !== undefined && { offset }) }));
  const listed = new Set(next.map(({ key }) => key));
  const remove = isArrayKind(map.type)
    ? []
    : [...new Set([...old.values()].map(({ key }) => key))].filter(
        (key) => !listed.has(key) && (stored === undefined || stored.get(key) !== null),
      );
  return set.length + remove.length === 0 ? undefined : { set, remove };
}

function placeOf({ key, offset }: RawEntry): string {
  return `${key} ${offset ?? ''}`;
}

/** What was applied before and cannot be encoded now is left as it is: a command must not fail for it. */
function formerEntries(map: MapInfo, args: MapArgs | undefined, interfaces: Interfaces): readonly RawEntry[] {
  try {
    return args === undefined ? [] : encodeMapArgs(map, args, '', interfaces);
  } catch (error) {
    if (error instanceof AgentError) return [];
    throw error;
  }
}

/** @throws AgentError MAP_VALUE_INVALID also for a new entry whose interface does not exist */
function wantedEntries(
  map: MapInfo,
  wanted: MapArgs | undefined,
  path: string,
  { interfaces, old }: Pick<Ground, 'interfaces'> & { readonly old: ReadonlyMap<string, RawEntry> },
): readonly RawEntry[] {
  if (wanted === undefined) return [];
  const entries = encodeMapArgs(map, wanted, path, interfaces);
  for (const entry of entries) {
    const former = old.get(placeOf(entry));
    const isFormer = former?.value === entry.value && former.waits?.why === entry.waits?.why;
    if (entry.waits === undefined || isFormer) continue;
    throw new AgentError('MAP_VALUE_INVALID', entry.waits.why, { path: entry.waits.path });
  }
  return entries;
}

/** The keys of live maps that `map_args` and `monitor_maps` are about, in hexadecimal, by the pin of the map. */
export function keysToCompare(
  loadedPrograms: readonly Pick<LoadedProgram, 'name' | 'dir' | 'maps'>[],
  programs: readonly Program[],
  interfaces: Interfaces,
): ReadonlyMap<string, ReadonlySet<string>> {
  const keys = new Map<string, Set<string>>();
  const note = (pin: string, some: readonly string[]) => {
    const known = keys.get(pin) ?? new Set();
    keys.set(pin, known);
    for (const key of some) known.add(key);
  };
  for (const { name, dir, maps } of loadedPrograms) {
    for (const { mapArgs, monitors } of programs.filter((program) => program.name === name)) {
      for (const args of mapArgs) {
        const map = named(maps, args.name)?.map;
        if (map === undefined) continue;
        const entries = formerEntries(map, args, interfaces);
        note(
          mapPin(dir, map.name),
          entries.map(({ key }) => key),
        );
      }
      for (const { map, keys: made } of monitoredKeys(maps, monitors)) note(mapPin(dir, map.name), made);
    }
  }
  return keys;
}

/** None of a program whose monitors do not fit its maps, which planning refuses. */
function monitoredKeys(
  maps: readonly MapInfo[],
  monitors: Program['monitors'],
): ReturnType<typeof keysToMake<MapInfo>> {
  try {
    return keysToMake(maps, monitors);
  } catch (error) {
    if (error instanceof AgentError) return [];
    throw error;
  }
}

/** For each program, why entries of its `map_args` wait, as a sentence. */
export function waitingEntries(
  members: readonly { readonly program: Program; readonly inherited: Inheritance | undefined }[],
  { interfaces }: Ground,
): ReadonlyMap<Program, string> {
  const reasons = members.flatMap(({ program, inherited }) => {
    const waits = program.mapArgs.flatMap((args) => {
      const map = named(inherited?.maps ?? [], args.name)?.map;
      return map === undefined ? [] : formerEntries(map, args, interfaces).flatMap((entry) => entry.waits?.why ?? []);
    });
    return waits.length === 0 ? [] : [[program, `${waits[0]}; the entry is written when it appears`] as const];
  });
  return new Map(reasons);
}

/** Sentences about entries of `map_args` that live maps do not hold. */
export function entryFindings(
  loadedPrograms: readonly Pick<LoadedProgram, 'name' | 'dir' | 'maps' | 'digest'>[],
  programs: readonly Program[],
  { interfaces, entries }: Ground,
): string[] {
  return loadedPrograms.flatMap(({ name, dir, maps, digest }) => {
    const program = programs.find((other) => other.enabled && contentDigest(other) === digest);
    return (program?.mapArgs ?? []).flatMap((args) => {
      const map = named(maps, args.name)?.map;
      const stored = map === undefined ? undefined : entries?.get(mapPin(dir, map.name));
      if (map === undefined || stored === undefined) return [];
      const other = formerEntries(map, args, interfaces).filter((one) => !holds(map, one, stored.get(one.key)));
      const [first] = other;
      if (first === undefined) return [];
      const count = `${other.length} ${other.length === 1 ? 'entry' : 'entries'}`;
      const waits = other.find((one) => one.waits !== undefined)?.waits;
      return [
        `${count} of ${args.name} of ${name} ${other.length === 1 ? 'is' : 'are'} not as map_args say${waits === undefined ? '' : `: ${waits.why}`}`,
      ];
    });
  });
}
