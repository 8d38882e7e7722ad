import { encodeMapArgs, isArrayKind } from '../domain/mapvalue.js';
import type { Generation, MapInfo } from '../domain/observed.js';
import { mapPin } from '../domain/pins.js';
import { contentDigest, type MapArgs, type Program } from '../domain/program.js';
import type { WriteMapStep } from '../domain/step.js';
import { AgentError } from '../errors.js';

/** Data maps that a program finds in place, and the generation that has them pinned. */
export interface Inheritance {
  readonly from: Generation;
  readonly maps: readonly MapInfo[];
}

/**
 * The entries to change in maps that live on: those of programs that stay, and those that a reloaded program takes over. Only what
 * differs from the last applied arguments is written, since a program may change its own maps. A key that is no longer listed is
 * deleted from hash kinds and left in array kinds, which cannot delete.
 *
 * @throws AgentError MAP_NOT_FOUND, MAP_VALUE_INVALID
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
    return [...names].flatMap((name) => {
      const wanted = program.mapArgs.findIndex((args) => args.name === name);
      const path = `${program.path}.map_args.${Math.max(0, wanted)}`;
      const map = maps.find((other) => other.name === name);
      if (map === undefined) {
        // One that is not taken over is new and filled when it is loaded.
        if (wanted === -1 || from.digest !== contentDigest(program)) return [];
        const message = `${program.name} has no map ${name}; it has ${maps.map((other) => other.name).join(', ')}`;
        throw new AgentError('MAP_NOT_FOUND', message, { path: `${path}.name` });
      }
      const step = changeOf(map, entriesOf(previous, name), program.mapArgs[wanted], path);
      return step === undefined ? [] : [{ op: 'write-map' as const, map: mapPin(from.dir, name), ...step }];
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
