import { type ChainHook, hookKey, hookOf } from '../../domain/hook.js';
import type { LoadedProgram, MapInfo, Observed, ObservedHook } from '../../domain/observed.js';
import { parseLoadName, programPin, slotPin, targetOfSegment } from '../../domain/pins.js';
import type { MemoryHandovers, MemoryProgram } from './handovers.js';
import type { MemoryLinks } from './links.js';
import { infoOf, type MemoryMap, mapsByDir } from './map.js';
import type { MemoryPins } from './pins.js';
import type { MemoryProbes } from './probes.js';

/** The kernel truncates names to this many characters. */
const LONGEST_NAME = 15;

/** The whole state of the datapath without a kernel. */
export interface MemoryState {
  readonly bpffs: string;
  readonly interfaces: ReadonlyMap<string, number>;
  readonly pins: MemoryPins;
  readonly links: MemoryLinks;
  readonly handovers: MemoryHandovers;
  readonly probes: MemoryProbes;
}

/** See `Datapath.observe`. */
export function observeMemory(state: MemoryState, cgroups: readonly string[]): Observed {
  const hooks = new Map<string, { -readonly [K in keyof ObservedHook]: ObservedHook[K] }>();
  const at = (hook: ChainHook) => {
    const known = hooks.get(hookKey(hook)) ?? { hook, attachments: [], loadedPrograms: [] };
    hooks.set(hookKey(hook), known);
    return known;
  };
  const mapsOf = mapsByDir(state.pins.all());
  for (const dir of new Set([...state.pins.all().keys()].flatMap((path) => loadDirOf(state, path) ?? []))) {
    const loaded = loadedProgramAt(state, dir, mapsOf.get(dir) ?? []);
    if (loaded !== undefined) at(loaded.hook).loadedPrograms = [...at(loaded.hook).loadedPrograms, loaded];
  }
  for (const { hook, attachment } of state.links.attachments()) {
    at(hook).attachments = [...at(hook).attachments, attachment];
  }
  const probes = state.probes.loaded(`${state.bpffs}/progs/probes`, mapsOf);
  const interfaces = new Map(state.interfaces);
  const groups = [...cgroups, ...[...hooks.values()].flatMap(({ hook }) => ('cgroup' in hook ? [hook.cgroup] : []))];
  const publics = [...state.pins.all()].filter(([path]) => segmentsOf(state, path)[0] !== 'progs');
  const publicMaps = new Map(publics.map(([path, { id }]) => [path, id]));
  const orphans = orphansOf(state, publics, [...mapsOf.values()].flat());
  return {
    hooks: [...hooks.values()],
    interfaces,
    // Here every control group exists.
    ...(groups.length > 0 && { cgroups: new Set(groups) }),
    publicMaps,
    ...(orphans.length > 0 && { orphans }),
    ...(probes.length > 0 && { probes }),
  };
}

/** Ids of the programs that links and slots hold. */
export function heldPrograms({ pins, links }: Pick<MemoryState, 'pins' | 'links'>): number[] {
  return [...links.attachments().map(({ attachment }) => attachment.programId), ...pins.inSlots()];
}

/** See `Observed.orphans`. */
function orphansOf(
  state: MemoryState,
  publics: readonly (readonly [string, MemoryProgram | MemoryMap])[],
  ofLoads: readonly MapInfo[],
): MapInfo[] {
  const pinned = [...state.pins.all().values()].filter((object) => 'maps' in object);
  const programs = [...pinned, ...state.pins.withIds(heldPrograms(state))];
  const used = new Set([...ofLoads.map(({ id }) => id), ...programs.flatMap((program) => usedIds(program))]);
  return publics.flatMap(([, object]): MapInfo[] => {
    if (!('entries' in object) || used.has(object.id)) return [];
    const { key: _key, value: _value, ...info } = infoOf(object);
    return [{ ...info, name: info.name.slice(0, LONGEST_NAME) }];
  });
}

/** Ids of the maps that a program uses, including its slot. */
function usedIds({ maps, slot }: MemoryProgram): number[] {
  return [...(slot === undefined || slot === 'any' ? [] : [slot.id]), ...maps.map(({ id }) => id)];
}

function loadedProgramAt(state: MemoryState, dir: string, maps: readonly MapInfo[]): LoadedProgram | undefined {
  const { pins, handovers, probes } = state;
  const [, target, name, versionSegment, last] = segmentsOf(state, dir);
  const parsed = parseLoadName(last ?? '');
  if (parsed === undefined) return undefined;
  const slot = pins.tryMap(slotPin(dir));
  const next = slot?.entries.get('next');
  const pinned = pins.tryProgram(programPin(dir));
  const marks = slot === undefined ? maps.map(({ id }) => id) : [slot.id];
  const program =
    pinned ?? pins.withIds(heldPrograms(state)).find((held) => usedIds(held).some((id) => marks.includes(id)));
  const there = new Set([slot?.id, ...maps.map(({ id }) => id)]);
  const lost = program === undefined ? [] : usedIds(program).filter((id) => !there.has(id));
  const isLost = program !== undefined && pinned === undefined;
  return {
    hook: hookOf(targetOfSegment(target!), parsed.attachPoint),
    name: name!,
    versionSegment: versionSegment!,
    digest: parsed.digest,
    serial: parsed.serial,
    dir,
    programId: program?.id,
    slot: slot === undefined ? undefined : { mapId: slot.id, next: next === undefined ? null : Number(next) },
    maps,
    ...(handovers.has(dir) && { handedOver: handovers.at(dir)?.id ?? null }),
    ...(probes.at(dir).length > 0 && { probes: probes.at(dir) }),
    ...((isLost || lost.length > 0) && { unpinned: { program: isLost, maps: lost } }),
  };
}

/** The load's directory to which a pin belongs. */
function loadDirOf(state: MemoryState, path: string): string | undefined {
  const inside = segmentsOf(state, path);
  const isPart = inside[0] === 'progs' && inside[1] !== 'probes' && inside.length > 5;
  return isPart ? [state.bpffs, ...inside.slice(0, 5)].join('/') : undefined;
}

function segmentsOf({ bpffs }: MemoryState, path: string): string[] {
  return path.slice(bpffs.length + 1).split('/');
}
