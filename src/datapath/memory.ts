import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Hook, hookKey, sameHook } from '../domain/hook.js';
import { encodeMapArgs } from '../domain/mapvalue.js';
import type { Attachment, Generation, MapInfo, Observed, ObservedHook } from '../domain/observed.js';
import { ifaceOfSegment, mapPin, mapSegment, parseGenerationName, programPin, slotPin } from '../domain/pins.js';
import { AgentError } from '../errors.js';
import type { Datapath, LinkRef, LoadRequest, MapChange } from './datapath.js';
import { type DeclaredMap, readObjectFile } from './object.js';

const BPF_MAP_TYPE_PROG_ARRAY = 3;

interface MemoryMap {
  readonly id: number;
  readonly declared: DeclaredMap;
  readonly entries: Map<string, string>;
}

interface MemoryProgram {
  readonly id: number;
  readonly hook: Hook;
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
    const mapsByDir = this.#mapsByDir();
    for (const [path, object] of this.#pins) {
      const inside = this.#segments(path);
      if (inside[0] === 'progs' && inside.at(-1) === 'prog') {
        const dir = path.slice(0, -'/prog'.length);
        const generation = this.#generation(dir, mapsByDir.get(dir) ?? []);
        if (generation !== undefined)
          at(generation.hook).generations = [...at(generation.hook).generations, generation];
      } else if ('programId' in object) {
        at(object.hook).attachments = [...at(object.hook).attachments, this.#attachment(path, object)];
      } else if (inside[0] !== 'progs') {
        publicMaps.set(path, object.id);
      }
    }
    return { hooks: [...hooks.values()], interfaces: new Map(this.#options.interfaces), publicMaps };
  }

  async load(request: LoadRequest): Promise<void> {
    const { hook, dir, objectPath, entryFunction, slotMap, share, fill } = request;
    const object = readObjectFile(await readObject(objectPath));
    if (!object.programs.includes(entryFunction)) {
      const there = object.programs.join(', ') || 'none';
      throw new AgentError('ENTRY_FUNCTION_NOT_FOUND', `The object has no function ${entryFunction}; it has ${there}`);
    }
    const slot = object.maps.find(({ name }) => name === slotMap);
    if (slotMap !== '' && (slot?.type !== BPF_MAP_TYPE_PROG_ARRAY || slot.maxEntries !== 1)) {
      throw new AgentError('SLOT_INVALID', `${slotMap} is not a PROG_ARRAY with one entry in this object`);
    }
    const maps = object.maps
      .filter(({ name, type }) => name !== slotMap && type !== BPF_MAP_TYPE_PROG_ARRAY)
      .map((declared): MemoryMap => {
        const source = share.find(({ map }) => mapSegment(map) === mapSegment(declared.name));
        if (source !== undefined) return this.#map(source.pin);
        return { id: this.#nextId(), declared, entries: new Map() };
      });
    for (const args of fill) {
      const map = maps.find(({ declared }) => declared.name === args.name);
      if (map === undefined) {
        throw new AgentError('MAP_NOT_FOUND', `The object has no map ${args.name}`, { path: 'map_args' });
      }
      for (const { key, value } of encodeMapArgs(infoOf(map), args, 'map_args')) map.entries.set(key, value);
    }
    this.#pins.set(programPin(dir), { id: this.#nextId(), hook });
    if (slot !== undefined) {
      this.#pins.set(slotPin(dir), { id: this.#nextId(), declared: slot, entries: new Map() });
    }
    for (const map of maps) this.#pins.set(mapPin(dir, map.declared.name), map);
  }

  async setSlot(slot: string, program: string | null): Promise<void> {
    const { entries } = this.#map(slot);
    if (program === null) entries.delete('next');
    else entries.set('next', String(this.#program(program).id));
  }

  async attach(hook: Hook, program: string, link: string): Promise<void> {
    if (!this.#options.interfaces.has(hook.iface)) {
      throw new AgentError('INTERFACE_NOT_FOUND', `This host has no interface ${hook.iface}`);
    }
    const { id } = this.#program(program);
    const holder = [...this.#pins].find(
      ([path, object]) => path !== link && 'programId' in object && sameHook(object.hook, hook),
    );
    if (holder !== undefined) throw new AgentError('HOOK_OCCUPIED', `${hookKey(hook)} is held by ${holder[0]}`);
    const standing = this.#pins.get(link);
    if (standing !== undefined && 'programId' in standing) standing.programId = id;
    else this.#pins.set(link, { id: this.#nextId(), hook, programId: id });
  }

  async retarget(_hook: Hook, from: LinkRef, to: LinkRef): Promise<void> {
    const link = this.#pins.get(from.link) as MemoryLink | undefined;
    if (link === undefined) throw new AgentError('KERNEL', `There is no link at ${from.link}`);
    link.programId = this.#program(to.program).id;
    this.#pins.delete(from.link);
    this.#pins.set(to.link, link);
  }

  async detach(_hook: Hook, link: string): Promise<void> {
    this.#pins.delete(link);
  }

  async writeMap(pin: string, change: MapChange): Promise<MapChange> {
    const { entries } = this.#map(pin);
    const touched = [...change.set.map(({ key }) => key), ...change.remove];
    const inverse = {
      set: touched.flatMap((key) => (entries.has(key) ? [{ key, value: entries.get(key)! }] : [])),
      remove: touched.filter((key) => !entries.has(key)),
    };
    for (const { key, value } of change.set) entries.set(key, value);
    for (const key of change.remove) entries.delete(key);
    return inverse;
  }

  async readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined> {
    const value = this.#map(pin).entries.get(Buffer.from(key).toString('hex'));
    return value === undefined ? undefined : Buffer.from(value, 'hex');
  }

  async publish(pin: string, path: string): Promise<void> {
    this.#pins.set(path, this.#map(pin));
  }

  async unpublish(path: string): Promise<void> {
    this.#pins.delete(path);
  }

  async grace(): Promise<void> {}

  async discard(dir: string): Promise<void> {
    for (const path of [...this.#pins.keys()]) {
      if (path.startsWith(`${dir}/`)) this.#pins.delete(path);
    }
  }

  async close(): Promise<void> {}

  /** The data maps of each generation. */
  #mapsByDir(): ReadonlyMap<string, readonly MapInfo[]> {
    const found = [...this.#pins].flatMap(([path, map]) => {
      const [, dir, name] = /^(.+)\/maps\/([^/]+)$/.exec(path) ?? [];
      return dir === undefined || name === undefined ? [] : [{ dir, info: { ...infoOf(map as MemoryMap), name } }];
    });
    const byDir = new Map<string, MapInfo[]>();
    for (const { dir, info } of found) byDir.set(dir, [...(byDir.get(dir) ?? []), info]);
    return byDir;
  }

  #generation(dir: string, maps: readonly MapInfo[]): Generation | undefined {
    const [, iface, name, versionSegment, last] = this.#segments(dir);
    const parsed = parseGenerationName(last ?? '');
    if (parsed === undefined) return undefined;
    const slot = this.#pins.get(slotPin(dir)) as MemoryMap | undefined;
    const next = slot?.entries.get('next');
    return {
      hook: { iface: ifaceOfSegment(iface!), direction: parsed.direction },
      name: name!,
      versionSegment: versionSegment!,
      digest: parsed.digest,
      serial: parsed.serial,
      dir,
      programId: this.#program(programPin(dir)).id,
      slot: slot === undefined ? undefined : { mapId: slot.id, next: next === undefined ? null : Number(next) },
      maps,
    };
  }

  #attachment(path: string, link: MemoryLink): Attachment {
    const attached = this.#options.interfaces.has(link.hook.iface);
    const kind = link.hook.direction === 'xdpingress' ? 'xdp' : 'tcx';
    return { kind, linkPin: path, linkId: link.id, programId: link.programId, attached };
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
    if (object === undefined || 'entries' in object) throw new AgentError('KERNEL', `No program is pinned at ${pin}`);
    return object;
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }
}

/** The interfaces of this machine, with indices made up: enough to plan with. Format: proc(5), /proc/net/dev. */
export function interfacesOfMachine(): ReadonlyMap<string, number> {
  const lines = readFileSync('/proc/self/net/dev', 'utf8').split('\n').slice(2);
  const names = lines.map((line) => line.split(':', 1)[0]!.trim()).filter((name) => name !== '');
  return new Map(names.map((name, index) => [name, index + 1]));
}

function infoOf({ id, declared }: MemoryMap): MapInfo {
  return { ...declared, id };
}

async function readObject(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new AgentError('OBJECT_INVALID', `Cannot read the object file ${path}`, { cause });
  }
}
