import { type Hook, hookKey, programKind } from '../domain/hook.js';
import { mapSegment, stagePin } from '../domain/pins.js';
import { AgentError } from '../errors.js';
import type { CaptureRequest } from './datapath.js';
import type { MemoryMap } from './memory-map.js';

/** A program of the datapath without a kernel. */
export interface MemoryProgram {
  readonly id: number;
  readonly hook: Hook;
  /** The data maps that it uses, pinned or not. */
  readonly maps: readonly MemoryMap[];
  /** Its slot, if it has one; `any` is whichever is asked for. */
  readonly slot: MemoryMap | 'any' | undefined;
}

/** The stages of the datapath without a kernel, by the directory that each is in. */
export class MemoryStages {
  readonly #byDir = new Map<string, MemoryProgram | null>();

  make(dir: string): void {
    if (this.#byDir.has(dir)) throw new AgentError('KERNEL', `Cannot make the directory ${dir}: it exists`);
    this.#byDir.set(dir, null);
  }

  has(dir: string): boolean {
    return this.#byDir.has(dir);
  }

  /** @returns whether the pin is that of a stage */
  put(pin: string, program: MemoryProgram | null): boolean {
    const dir = [...this.#byDir.keys()].find((candidate) => stagePin(candidate) === pin);
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
   * The program on a stage, if it is what is asked for; see `Datapath.capture`.
   *
   * @param pinned the map that is pinned at a path
   * @throws AgentError LOAD_FAILED, SLOT_INVALID, MAP_INCOMPATIBLE
   */
  fitting(request: CaptureRequest, pinned: (pin: string) => MemoryMap): MemoryProgram {
    const { dir, hook, slotMap, share } = request;
    const program = this.at(dir);
    if (program === null)
      throw new AgentError('LOAD_FAILED', `The companion has put no program on the stage of ${dir}`);
    if (programKind(program.hook.direction) !== programKind(hook.direction)) {
      const message = `Program ${program.id} that the companion has loaded is none for ${hookKey(hook)}`;
      throw new AgentError('LOAD_FAILED', message);
    }
    const { slot } = program;
    const fits = slotMap === '' || slot === 'any' || mapSegment(slot?.declared.name ?? '') === mapSegment(slotMap);
    if (!fits) throw new AgentError('SLOT_INVALID', `The program uses no map ${slotMap} that could be its slot`);
    const missing = share.find(({ pin }) => !program.maps.includes(pinned(pin)));
    if (missing === undefined) return program;
    throw new AgentError('MAP_INCOMPATIBLE', `The companion has not taken over the map ${missing.map}`);
  }
}
