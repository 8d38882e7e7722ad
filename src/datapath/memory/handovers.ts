import { attachPointOf, type ChainHook, hookKey } from '../../domain/hook.js';
import { handoverPin, mapSegment } from '../../domain/pins.js';
import { AgentError } from '../../errors.js';
import type { CaptureRequest } from '../datapath.js';
import type { MemoryMap } from './map.js';

/** A program of the datapath without a kernel. */
export interface MemoryProgram {
  readonly id: number;
  readonly hook: ChainHook;
  /** The data maps that it uses, pinned or not. */
  readonly maps: readonly MemoryMap[];
  readonly hasFrags: boolean;
  /** Its slot, if it has one; `any`: whichever is requested. */
  readonly slot: MemoryMap | 'any' | undefined;
}

/** The handover slots of the datapath without a kernel, by their directories. */
export class MemoryHandovers {
  readonly #byDir = new Map<string, MemoryProgram | null>();

  make(dir: string): void {
    if (this.#byDir.has(dir)) throw new AgentError('KERNEL', `Cannot make the directory ${dir}: it exists`);
    this.#byDir.set(dir, null);
  }

  has(dir: string): boolean {
    return this.#byDir.has(dir);
  }

  /** @returns whether the pin is that of a handover slot */
  put(pin: string, program: MemoryProgram | null): boolean {
    const dir = [...this.#byDir.keys()].find((candidate) => handoverPin(candidate) === pin);
    if (dir !== undefined) this.#byDir.set(dir, program);
    return dir !== undefined;
  }

  at(dir: string): MemoryProgram | null {
    return this.#byDir.get(dir) ?? null;
  }

  discard(dir: string): void {
    this.#byDir.delete(dir);
  }

  /**
   * The program in a handover slot, if it meets the request; see `Datapath.capture`.
   *
   * @param pinned returns the map that is pinned at a path
   * @throws AgentError LOAD_FAILED, SLOT_INVALID, MAP_INCOMPATIBLE
   */
  fitting(request: CaptureRequest, pinned: (pin: string) => MemoryMap): MemoryProgram {
    const { dir, hook, slotMap, share } = request;
    const program = this.at(dir);
    if (program === null)
      throw new AgentError('LOAD_FAILED', `The companion has put no program into the handover slot of ${dir}`);
    if (attachPointOf(program.hook).programType !== attachPointOf(hook).programType) {
      const message = `Program ${program.id} that the companion has loaded has the wrong type for ${hookKey(hook)}`;
      throw new AgentError('LOAD_FAILED', message);
    }
    const { slot } = program;
    const fits = slotMap === '' || slot === 'any' || mapSegment(slot?.declared.name ?? '') === mapSegment(slotMap);
    if (!fits) throw new AgentError('SLOT_INVALID', `The program uses no map ${slotMap} that could be its slot`);
    const missing = share.find(({ pin }) => !program.maps.includes(pinned(pin)));
    if (missing === undefined) return program;
    throw new AgentError(
      'MAP_INCOMPATIBLE',
      `The companion does not use the map ${missing.map} of the running version`,
    );
  }
}
