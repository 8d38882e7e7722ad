import { type Hook, hookKey, programKind, sameHook } from '../domain/hook.js';
import type { MapShape } from '../domain/mapvalue.js';
import type { Attachment, Generation, MapInfo, Observed, ObservedHook } from '../domain/observed.js';
import { ifaceOfSegment, mapPin, parseGenerationName, programPin, slotPin } from '../domain/pins.js';
import type { Place } from '../domain/step.js';
import { AgentError } from '../errors.js';
import type {
  Datapath,
  KernelIds,
  LinkRef,
  LoadProbesRequest,
  LoadRequest,
  MapChange,
  MapRead,
  MapReading,
  RunStats,
  XdpMode,
} from './datapath.js';
import { changeMap, inverseOfChange, type MemoryMap, makeMaps, mapsByDir, readingOf } from './memory-map.js';
import { chooseProbes, MemoryProbes, probeFunctions } from './memory-probes.js';
import { openObjectFile, PROG_ARRAY, slotOf } from './object.js';

interface MemoryProgram {
  readonly id: number;
  readonly hook: Hook;
  /** The data maps that it uses, pinned or not. */
  readonly maps: readonly MemoryMap[];
}

interface MemoryLink {
  readonly id: number;
  readonly hook: Hook;
  programId: number;
}

export interface MemoryDatapathOptions {
  readonly bpffs: string;
  /** Interfaces that exist, by name; the map may change while the datapath is in use. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** How XDP attaches; `auto` when absent. Every driver here can run it. */
  readonly xdp?: XdpMode;
}

/**
 * A datapath without a kernel, for planning tests and for machines without privileges: it keeps programs, slots, maps and links by pin
 * path and reads real object files, but runs no packet through them and verifies nothing. What it promises beyond that, the contract
 * suite proves on the kernel too.
 */
export class MemoryDatapath implements Datapath {
  readonly kind = 'memory';
  readonly #options: MemoryDatapathOptions;
  readonly #pins = new Map<string, MemoryProgram | MemoryMap | MemoryLink>();
  /** In the order in which packets meet them. */
  readonly #links: MemoryLink[] = [];
  readonly #probes = new MemoryProbes(() => this.#nextId());
  #lastId = 0;

  constructor(options: MemoryDatapathOptions) {
    this.#options = options;
  }

  async observe(): Promise<Observed> {
    const hooks = new Map<string, { -readonly [K in keyof ObservedHook]: ObservedHook[K] }>();
    const at = (hook: Hook) => {
      const known = hooks.get(hookKey(hook)) ?? { hook, attachments: [], generations: [] };
      hooks.set(hookKey(hook), known);
      return known;
    };
    const publicMaps = new Map<string, number>();
    const mapsOf = mapsByDir(this.#pins);
    const paths = new Map<MemoryLink, string>();
    for (const [path, object] of this.#pins) {
      const inside = this.#segments(path);
      if (inside[0] === 'progs' && inside.at(-1) === 'prog') {
        const dir = path.slice(0, -'/prog'.length);
        const generation = this.#generation(dir, mapsOf.get(dir) ?? []);
        if (generation !== undefined)
          at(generation.hook).generations = [...at(generation.hook).generations, generation];
      } else if ('programId' in object) {
        paths.set(object, path);
      } else if (inside[0] !== 'progs') {
        publicMaps.set(path, object.id);
      }
    }
    for (const link of this.#links) {
      const path = paths.get(link);
      if (path === undefined) continue;
      at(link.hook).attachments = [...at(link.hook).attachments, this.#attachment(path, link)];
    }
    const probes = this.#probes.generations(`${this.#options.bpffs}/progs/probes`, mapsOf);
    const interfaces = new Map(this.#options.interfaces);
    return { hooks: [...hooks.values()], interfaces, publicMaps, ...(probes.length > 0 && { probes }) };
  }

  async load(request: LoadRequest): Promise<void> {
    const { hook, dir, objectPath, entryFunction, slotMap, probes: treatment = 'attach' } = request;
    const object = await openObjectFile(objectPath);
    const slot = slotOf(object, entryFunction, slotMap);
    const functions = treatment === 'leave' ? [] : probeFunctions(object).filter((name) => name !== entryFunction);
    const used = object.uses.get(entryFunction);
    const declared = object.maps.filter(
      ({ name, type }) => name !== slotMap && (type !== PROG_ARRAY || used?.has(name) === true),
    );
    const maps = this.#makeMaps(declared, request);
    this.#pins.set(programPin(dir), { id: this.#nextId(), hook, maps });
    if (slot !== undefined) {
      this.#pins.set(slotPin(dir), { id: this.#nextId(), declared: slot, entries: new Map() });
    }
    for (const map of maps) this.#pins.set(mapPin(dir, map.declared.name), map);
    if (treatment === 'attach') this.#probes.attach(dir, functions);
  }

  async loadProbes(request: LoadProbesRequest): Promise<void> {
    const { dir, objectPath, entryFunction, treatment } = request;
    const object = await openObjectFile(objectPath);
    const functions = chooseProbes(object, entryFunction);
    const maps = this.#makeMaps(object.maps, request);
    for (const map of maps) this.#pins.set(mapPin(dir, map.declared.name), map);
    if (treatment === 'attach') this.#probes.attach(dir, functions);
  }

  async moveProbes(from: string, to: string): Promise<void> {
    this.#probes.move(from, to);
  }

  async setSlot(slot: string, program: string | null): Promise<void> {
    const { entries } = this.#map(slot);
    if (program === null) entries.delete('next');
    else entries.set('next', String(this.#program(program).id));
  }

  async attach(hook: Hook, program: string, link: string, place: Place | null = null): Promise<void> {
    if (!this.#options.interfaces.has(hook.iface)) {
      throw new AgentError('INTERFACE_NOT_FOUND', `This host has no interface ${hook.iface}`);
    }
    const { id } = this.#program(program);
    const standing = this.#pins.get(link) as MemoryLink | undefined;
    const others = this.#links.filter((other) => other !== standing && sameHook(other.hook, hook));
    const holder = programKind(hook.direction) === 'xdp' ? others[0] : others.find(({ programId }) => programId === id);
    if (holder !== undefined) {
      throw new AgentError('HOOK_OCCUPIED', `${hookKey(hook)} is held by program ${holder.programId}`);
    }
    if (standing !== undefined) {
      standing.programId = id;
      return;
    }
    const at = place === null ? this.#links.length : this.#indexOf(place);
    const attached = { id: this.#nextId(), hook, programId: id };
    this.#links.splice(at, 0, attached);
    this.#pins.set(link, attached);
  }

  ordersLinks(): boolean {
    return true;
  }

  async retarget(_hook: Hook, from: LinkRef, to: LinkRef): Promise<void> {
    const link = (this.#pins.get(from.link) ?? this.#pins.get(to.link)) as MemoryLink | undefined;
    if (link === undefined) throw new AgentError('KERNEL', `There is no link at ${from.link}`);
    link.programId = this.#program(to.program).id;
    this.#pins.delete(from.link);
    this.#pins.set(to.link, link);
  }

  async detach(_hook: Hook, link: string): Promise<void> {
    const standing = this.#links.indexOf(this.#pins.get(link) as MemoryLink);
    if (standing !== -1) this.#links.splice(standing, 1);
    this.#pins.delete(link);
  }

  async writeMap(pin: string, change: MapChange): Promise<void> {
    changeMap(this.#map(pin), change);
  }

  async inverseOf(pin: string, change: MapChange): Promise<MapChange> {
    return inverseOfChange(this.#map(pin), change);
  }

  async readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined> {
    const value = this.#map(pin).entries.get(Buffer.from(key).toString('hex'));
    return value === undefined ? undefined : Buffer.from(value, 'hex');
  }

  async readMaps(reads: readonly MapRead[]): Promise<readonly (MapReading | undefined)[]> {
    return reads.map((read) => {
      const map = this.#pins.get(read.pin);
      return map?.id === read.mapId && 'entries' in map ? readingOf(map, read.keys) : undefined;
    });
  }

  /** Nothing runs, so nothing is counted. */
  async runStats(programPins: readonly string[]): Promise<ReadonlyMap<string, RunStats>> {
    return new Map(programPins.filter((pin) => this.#pins.has(pin)).map((pin) => [pin, { count: 0, timeNs: 0 }]));
  }

  async countRuns(): Promise<Disposable> {
    return { [Symbol.dispose]: () => undefined };
  }

  async publish(pin: string, path: string): Promise<void> {
    this.#pins.set(path, this.#map(pin));
  }

  async unpublish(path: string): Promise<void> {
    this.#pins.delete(path);
  }

  async grace(): Promise<void> {}

  async repin(dir: string, programId: number, mapIds: readonly number[]): Promise<void> {
    const program = this.#program(programPin(dir));
    const maps = program.maps.filter(({ id }) => mapIds.includes(id));
    if (program.id !== programId || maps.length < mapIds.length) {
      throw new AgentError('KERNEL', `Program ${programId} of ${dir} is gone, or does not use such maps`);
    }
    for (const map of maps) this.#pins.set(mapPin(dir, map.declared.name), map);
  }

  /** What is pinned nowhere is gone. */
  async proveGone(gone: KernelIds): Promise<void> {
    const ids = new Set([...gone.programs, ...gone.maps, ...gone.links]);
    const left = [...this.#pins].filter(([, { id }]) => ids.has(id));
    const words = [...left.map(([path, { id }]) => `${id} is held by the pin ${path}`), ...this.#probes.held(gone)];
    if (words.length === 0) return;
    throw new AgentError('LEFTOVER', words.join('; '));
  }

  async discard(dir: string): Promise<void> {
    for (const path of [...this.#pins.keys()]) {
      if (path.startsWith(`${dir}/`)) this.#pins.delete(path);
    }
    this.#probes.discard(dir);
  }

  async close(): Promise<void> {}

  #generation(dir: string, maps: readonly MapInfo[]): Generation | undefined {
    const [, iface, name, versionSegment, last] = this.#segments(dir);
    const parsed = parseGenerationName(last ?? '');
    if (parsed === undefined) return undefined;
    const slot = this.#pins.get(slotPin(dir)) as MemoryMap | undefined;
    const next = slot?.entries.get('next');
    const program = this.#program(programPin(dir));
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
      ...(this.#probes.at(dir).length > 0 && { probes: this.#probes.at(dir) }),
      ...(lost.length > 0 && { unpinned: { program: false, maps: lost } }),
    };
  }

  #attachment(path: string, link: MemoryLink): Attachment {
    const attached = this.#options.interfaces.has(link.hook.iface);
    const common = { linkPin: path, linkId: link.id, programId: link.programId, attached };
    if (link.hook.direction !== 'xdpingress') return { kind: 'tcx', ...common };
    const mode = this.#options.xdp === 'generic' ? 'generic' : 'native';
    return { kind: 'xdp', ...common, ...(attached && { mode }) };
  }

  #indexOf({ side, link }: Place): number {
    const index = this.#links.indexOf(this.#pins.get(link) as MemoryLink);
    if (index === -1) throw new AgentError('ATTACH_FAILED', `There is no link at ${link} to attach next to`);
    return side === 'behind' ? index + 1 : index;
  }

  #segments(path: string): string[] {
    return path.slice(this.#options.bpffs.length + 1).split('/');
  }

  #map(pin: string): MemoryMap {
    const object = this.#pins.get(pin);
    if (object === undefined || !('entries' in object)) throw new AgentError('KERNEL', `No map is pinned at ${pin}`);
    return object;
  }

  #program(pin: string): MemoryProgram {
    const object = this.#pins.get(pin);
    if (object === undefined || !('maps' in object)) throw new AgentError('KERNEL', `No program is pinned at ${pin}`);
    return object;
  }

  #makeMaps(declared: readonly MapShape[], request: Parameters<typeof makeMaps>[1]): MemoryMap[] {
    const taken = (pin: string) => this.#map(pin);
    return makeMaps(declared, request, taken, () => this.#nextId());
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }
}
