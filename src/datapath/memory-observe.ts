import { type Hook, hookKey } from '../domain/hook.js';
import type { Generation, MapInfo, Observed, ObservedHook } from '../domain/observed.js';
import { ifaceOfSegment, parseGenerationName, programPin, slotPin } from '../domain/pins.js';
import type { MemoryLinks } from './memory-links.js';
import { mapsByDir } from './memory-map.js';
import type { MemoryPins } from './memory-pins.js';
import type { MemoryProbes } from './memory-probes.js';
import type { MemoryStages } from './memory-stages.js';

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
  const publicMaps = new Map<string, number>();
  const mapsOf = mapsByDir(state.pins.all());
  for (const [path, object] of state.pins.all()) {
    const inside = segmentsOf(state, path);
    if (inside[0] === 'progs' && inside.at(-1) === 'prog') {
      const dir = path.slice(0, -'/prog'.length);
      const generation = generationAt(state, dir, mapsOf.get(dir) ?? []);
      if (generation !== undefined) at(generation.hook).generations = [...at(generation.hook).generations, generation];
    } else if (inside[0] !== 'progs') {
      publicMaps.set(path, object.id);
    }
  }
  for (const { hook, attachment } of state.links.attachments()) {
    at(hook).attachments = [...at(hook).attachments, attachment];
  }
  const probes = state.probes.generations(`${state.bpffs}/progs/probes`, mapsOf);
  const interfaces = new Map(state.interfaces);
  return { hooks: [...hooks.values()], interfaces, publicMaps, ...(probes.length > 0 && { probes }) };
}

function generationAt(state: MemoryState, dir: string, maps: readonly MapInfo[]): Generation | undefined {
  const { pins, stages, probes } = state;
  const [, iface, name, versionSegment, last] = segmentsOf(state, dir);
  const parsed = parseGenerationName(last ?? '');
  if (parsed === undefined) return undefined;
  const slot = pins.tryMap(slotPin(dir));
  const next = slot?.entries.get('next');
  const program = pins.program(programPin(dir));
  const lost = program.maps.filter(({ id }) => !maps.some((map) => map.id === id)).map(({ id }) => id);
  return {
    hook: { iface: ifaceOfSegment(iface!), direction: parsed.direction },
    name: name!,
    versionSegment: versionSegment!,
    digest: parsed.digest,
    serial: parsed.serial,
    dir,
    programId: program.id,
    slot: slot === undefined ? undefined : { mapId: slot.id, next: next === undefined ? null : Number(next) },
    maps,
    ...(stages.has(dir) && { staged: stages.at(dir)?.id ?? null }),
    ...(probes.at(dir).length > 0 && { probes: probes.at(dir) }),
    ...(lost.length > 0 && { unpinned: { program: false, maps: lost } }),
  };
}

function segmentsOf({ bpffs }: MemoryState, path: string): string[] {
  return path.slice(bpffs.length + 1).split('/');
}
