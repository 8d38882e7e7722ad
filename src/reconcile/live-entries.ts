import type { Datapath } from '../datapath/datapath.js';
import { type DesiredState, desiredPlaces } from '../domain/desired.js';
import { hookKey, isTracing, sameHook } from '../domain/hook.js';
import { hookAt, type Observed, observedProbes, type StoredEntries } from '../domain/observed.js';
import { AgentError } from '../errors.js';
import { entryFindings, keysToCompare } from '../plan/maps/changes.js';

/**
 * An observation with what live maps hold under the keys that `map_args` name. Programs and people change maps as well, so
 * what was last written says nothing about what is there.
 *
 * @param states what is desired and what was last applied
 */
export async function withEntries(
  observed: Observed,
  states: readonly (DesiredState | null)[],
  datapath: Pick<Datapath, 'readEntries'>,
): Promise<Observed> {
  const places = states.flatMap((state) => (state === null ? [] : desiredPlaces(state)));
  const keys = new Map(
    places.flatMap(({ hook, programs }) => [
      ...keysToCompare(loadsAt(observed, hook), both(places, hook, programs), observed.interfaces),
    ]),
  );
  const entries = new Map<string, StoredEntries>();
  for (const [pin, some] of keys) {
    const stored = await storedUnder(pin, [...some], datapath);
    if (stored !== undefined) entries.set(pin, stored);
  }
  return entries.size === 0 ? observed : { ...observed, entries };
}

type ProgramPlace = ReturnType<typeof desiredPlaces>[number];

/** The programs that any of the states has at a hook. */
function both(
  places: readonly ProgramPlace[],
  hook: ProgramPlace['hook'],
  programs: ProgramPlace['programs'],
): ProgramPlace['programs'] {
  const others = places.filter((place) => sameHook(place.hook, hook));
  return others.length === 1 ? programs : others.flatMap((place) => place.programs);
}

function loadsAt(observed: Observed, hook: ProgramPlace['hook']) {
  return isTracing(hook) ? observedProbes(observed) : hookAt(observed, hook).loadedPrograms;
}

/** Undefined for a map that cannot be read: then only what was last applied tells what it holds. */
async function storedUnder(
  pin: string,
  keys: readonly string[],
  datapath: Pick<Datapath, 'readEntries'>,
): Promise<StoredEntries | undefined> {
  try {
    return await datapath.readEntries(pin, keys);
  } catch (error) {
    if (error instanceof AgentError) return undefined;
    throw error;
  }
}

/** Sentences about entries of live maps that are not as `map_args` say. */
export function liveEntryFindings(observed: Observed, desired: DesiredState): string[] {
  return desiredPlaces(desired).flatMap(({ hook, programs }) =>
    entryFindings(loadsAt(observed, hook), programs, observed).map((text) => `${hookKey(hook)}: ${text}`),
  );
}
