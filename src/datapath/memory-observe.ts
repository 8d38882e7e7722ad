import { type Hook, hookKey } from '../domain/hook.js';
import type { Generation, MapInfo, Observed, ObservedHook } from '../domain/observed.js';
import { ifaceOfSegment, parseGenerationName, programPin, slotPin } from '../domain/pins.js';
import type { MemoryLinks } from './memory-links.js';
import { infoOf, type MemoryMap, mapsByDir } from './memory-map.js';
import type { MemoryPins } from './memory-pins.js';
import type { MemoryProbes } from './memory-probes.js';
import type { MemoryProgram, MemoryStages } from './memory-stages.js';

/** Names in the kernel are cut off behind so many characters. */
const LONGEST_NAME = 15;

/** All that the datapath without a kernel has. */
export interface MemoryState {
  readonly bpffs: string;
  readonly interfaces: ReadonlyMap<string, number>;
  readonly pins: MemoryPins;
  readonly links: MemoryLinks;
  readonly stages: MemoryStages;
  readonly probes: MemoryProbes;
}

/** See `Datapath.observe`. */
export function observeMemory(state: MemoryState): Observed {
  const hooks = new Map<string, { -readonly [K in keyof ObservedHook]: ObservedHook[K] }>();
  const at = (hook: Hook) => {
    const known = hooks.get(hookKey(hook)) ?? { hook, attachments: [], generations: [] };
    hooks.set(hookKey(hook), known);
    return known;
  };
  const mapsOf = mapsByDir(state.pins.all());
  for (const dir of new Set([...state.pins.all().keys()].flatMap((path) => generationDirOf(state, path) ?? []))) {
    const generation = generationAt(state, dir, mapsOf.get(dir) ?? []);
    if (generation !== undefined) at(generation.hook).generations = [...at(generation.hook).generations, generation];
  }
  for (const { hook, attachment } of state.links.attachments()) {
    at(hook).attachments = [...at(hook).attachments, attachment];
  }
  const probes = state.probes.generations(`${state.bpffs}/progs/probes`, mapsOf);
  const interfaces = new Map(state.interfaces);
  const publics = [...state.pins.all()].filter(([path]) => segmentsOf(state, path)[0] !== 'progs');
  const publicMaps = new Map(publics.map(([path, { id }]) => [path, id]));
  const orphans = orphansOf(state, publics, [...mapsOf.values()].flat());
  return {
    hooks: [...hooks.values()],
    interfaces,
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
  ofGenerations: readonly MapInfo[],
): MapInfo[] {
  const pinned = [...state.pins.all().values()].filter((object) => 'maps' in object);
  const programs = [...pinned, ...state.pins.withIds(heldPrograms(state))];
  const used = new Set([...ofGenerations.map(({ id }) => id), ...programs.flatMap((program) => usedIds(program))]);
  return publics.flatMap(([, object]): MapInfo[] => {
    if (!('entries' in object) || used.has(object.id)) return [];
    const { key: _key, value: _value, ...info } = infoOf(object);
    return [{ ...info, name: info.name.slice(0, LONGEST_NAME) }];
  });
}

/** Ids of the maps that a program uses, its slot among them. */
function usedIds({ maps, slot }: MemoryProgram): number[] {
  return [...(slot === undefined || slot === 'any' ? [] : [slot.id]), ...maps.map(({ id }) => id)];
}

function generationAt(state: MemoryState, dir: string, maps: readonly MapInfo[]): Generation | undefined {
  const { pins, stages, probes } = state;
  const [, iface, name, versionSegment, last] = segmentsOf(state, dir);
  const parsed = parseGenerationName(last ?? '');
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
    hook: { iface: ifaceOfSegment(iface!), direction: parsed.direction },
    name: name!,
    versionSegment: versionSegment!,
    digest: parsed.digest,
    serial: parsed.serial,
    dir,
    programId: program?.id,
    slot: slot === undefined ? undefined : { mapId: slot.id, next: next === undefined ? null : Number(next) },
    maps,
    ...(stages.has(dir) && { staged: stages.at(dir)?.id ?? null }),
    ...(probes.at(dir).length > 0 && { probes: probes.at(dir) }),
    ...((isLost || lost.length > 0) && { unpinned: { program: isLost, maps: lost } }),
  };
}

/** The directory of the generation that a pin is of. */
function generationDirOf(state: MemoryState, path: string): string | undefined {
  const inside = segmentsOf(state, path);
  const isPart = inside[0] === 'progs' && inside[1] !== 'probes' && inside.length > 5;
  return isPart ? [state.bpffs, ...inside.slice(0, 5)].join('/') : undefined;
}

function segmentsOf({ bpffs }: MemoryState, path: string): string[] {
  return path.slice(bpffs.length + 1).split('/');
}
