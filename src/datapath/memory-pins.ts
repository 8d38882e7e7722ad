import { AgentError } from '../errors.js';
import type { KernelIds } from './datapath.js';
import type { MemoryMap } from './memory-map.js';
import type { MemoryProgram } from './memory-stages.js';

/** What stands in the bpffs of the datapath without a kernel: programs and maps by path, in the order in which they were pinned. */
export class MemoryPins {
  readonly #byPath = new Map<string, MemoryProgram | MemoryMap>();

  pin(path: string, object: MemoryProgram | MemoryMap): void {
    this.#byPath.set(path, object);
  }

  unpin(path: string): void {
    this.#byPath.delete(path);
  }

  /** Takes away everything below a directory. */
  discard(dir: string): void {
    for (const path of [...this.#byPath.keys()]) {
      if (path.startsWith(`${dir}/`)) this.#byPath.delete(path);
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

  /** @throws AgentError KERNEL */
  program(path: string): MemoryProgram {
    const object = this.#byPath.get(path);
    if (object === undefined || !('maps' in object)) throw new AgentError('KERNEL', `No program is pinned at ${path}`);
    return object;
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
