import { PROG_ARRAY } from '../../domain/map-types.js';
import { AgentError } from '../../errors.js';
import type { KernelIds } from '../datapath.js';
import type { MemoryProgram } from './handovers.js';
import type { MemoryMap } from './map.js';

/** The bpffs of the datapath without a kernel: programs and maps by path, in the order in which they were pinned. */
export class MemoryPins {
  readonly #byPath = new Map<string, MemoryProgram | MemoryMap>();
  /** By id: all objects that were ever pinned. Those that are held are still in the kernel. */
  readonly #programs = new Map<number, MemoryProgram>();

  pin(path: string, object: MemoryProgram | MemoryMap): void {
    this.#byPath.set(path, object);
    if ('maps' in object) this.#programs.set(object.id, object);
  }

  /** A PROG_ARRAY is emptied when its last name is removed. */
  unpin(path: string): void {
    const object = this.#byPath.get(path);
    this.#byPath.delete(path);
    const isNamed = [...this.#byPath.values()].includes(object as MemoryMap);
    if (object !== undefined && 'entries' in object && object.declared.type === PROG_ARRAY && !isNamed) {
      object.entries.clear();
    }
  }

  /** Removes everything below a directory. */
  discard(dir: string): void {
    for (const path of [...this.#byPath.keys()]) {
      if (path.startsWith(`${dir}/`)) this.unpin(path);
    }
  }

  has(path: string): boolean {
    return this.#byPath.has(path);
  }

  all(): ReadonlyMap<string, MemoryProgram | MemoryMap> {
    return this.#byPath;
  }

  tryMap(path: string): MemoryMap | undefined {
    const object = this.#byPath.get(path);
    return object !== undefined && 'entries' in object ? object : undefined;
  }

  /** @throws AgentError KERNEL */
  map(path: string): MemoryMap {
    const map = this.tryMap(path);
    if (map === undefined) throw new AgentError('KERNEL', `No map is pinned at ${path}`);
    return map;
  }

  tryProgram(path: string): MemoryProgram | undefined {
    const object = this.#byPath.get(path);
    return object !== undefined && 'maps' in object ? object : undefined;
  }

  /** For programs that something holds, pinned or not. */
  withIds(ids: readonly number[]): MemoryProgram[] {
    return ids.flatMap((id) => this.#programs.get(id) ?? []);
  }

  /** Ids of the programs in slots. */
  inSlots(): number[] {
    return [...this.#byPath.values()].flatMap((object) => {
      const next = 'entries' in object ? object.entries.get('next') : undefined;
      return next === undefined ? [] : [Number(next)];
    });
  }

  /** @throws AgentError KERNEL */
  program(path: string): MemoryProgram {
    const program = this.tryProgram(path);
    if (program === undefined) throw new AgentError('KERNEL', `No program is pinned at ${path}`);
    return program;
  }

  /** @throws AgentError SLOT_INVALID if this is the slot of a running program */
  checkNoneHas(slot: MemoryProgram['slot']): void {
    const live = [...this.#byPath].find(([, object]) => object === slot)?.[0];
    if (live === undefined) return;
    throw new AgentError('SLOT_INVALID', `The companion has used the slot of a running program, pinned at ${live}`);
  }

  /** A description of each id in the list that is still pinned. */
  held({ programs, maps, links }: KernelIds): string[] {
    const ids = new Set([...programs, ...maps, ...links]);
    return [...this.#byPath].flatMap(([path, { id }]) => (ids.has(id) ? [`${id} is held by the pin ${path}`] : []));
  }
}
