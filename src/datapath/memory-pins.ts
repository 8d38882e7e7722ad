import { PROG_ARRAY } from '../domain/mapvalue.js';
import { AgentError } from '../errors.js';
import type { KernelIds } from './datapath.js';
import type { MemoryMap } from './memory-map.js';
import type { MemoryProgram } from './memory-stages.js';

/** What stands in the bpffs of the datapath without a kernel: programs and maps by path, in the order in which they were pinned. */
export class MemoryPins {
  readonly #byPath = new Map<string, MemoryProgram | MemoryMap>();
  /** By id: all that were ever pinned. Which of them are in the kernel still is told by what holds them. */
  readonly #programs = new Map<number, MemoryProgram>();

  pin(path: string, object: MemoryProgram | MemoryMap): void {
    this.#byPath.set(path, object);
    if ('maps' in object) this.#programs.set(object.id, object);
  }

  /** A PROG_ARRAY is emptied with its last name. */
  unpin(path: string): void {
    const object = this.#byPath.get(path);
    this.#byPath.delete(path);
    const isNamed = [...this.#byPath.values()].includes(object as MemoryMap);
    if (object !== undefined && 'entries' in object && object.declared.type === PROG_ARRAY && !isNamed) {
      object.entries.clear();
    }
  }

  /** Takes away everything below a directory. */
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

  /** Of programs that something holds, pinned or not. */
  withIds(ids: readonly number[]): MemoryProgram[] {
    return ids.flatMap((id) => this.#programs.get(id) ?? []);
  }

  /** Ids of the programs that slots name. */
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

  /** @throws AgentError SLOT_INVALID where a program that runs has this slot */
  checkNoneHas(slot: MemoryProgram['slot']): void {
    const live = [...this.#byPath].find(([, object]) => object === slot)?.[0];
    if (live === undefined) return;
    throw new AgentError('SLOT_INVALID', `The companion has taken the slot of a program that runs, pinned at ${live}`);
  }

  /** Those of the ids that are pinned still, each in words. */
  held({ programs, maps, links }: KernelIds): string[] {
    const ids = new Set([...programs, ...maps, ...links]);
    return [...this.#byPath].flatMap(([path, { id }]) => (ids.has(id) ? [`${id} is held by the pin ${path}`] : []));
  }
}
