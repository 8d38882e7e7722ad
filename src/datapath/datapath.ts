import type { Hook } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { MapArgs } from '../domain/program.js';

/**
 * The kernel as the agent sees it: few verbs, each addressed by pin path. `libbpf/` drives the real one, `memory.ts` imitates it
 * for planning tests and machines without privileges; one contract suite proves both.
 *
 * All methods reject with `AgentError` (`KERNEL`, or a more telling code as stated) and leave nothing half done.
 */
export interface Datapath {
  readonly kind: 'libbpf' | 'memory';

  /** Reads everything that is ours: generations, slots, links and filters, public map names, interfaces. */
  observe(): Promise<Observed>;

  /**
   * Opens the object, loads the entry program and only that, and pins it with its slot and maps. After a failure nothing of
   * the directory exists.
   *
   * @throws AgentError OBJECT_INVALID, ENTRY_FUNCTION_NOT_FOUND, MAP_NOT_FOUND (of `fill` or `share`), SLOT_INVALID (`slotMap`
   *   absent or not a one-entry PROG_ARRAY), MAP_VALUE_INVALID, MAP_INCOMPATIBLE (of `share`), VERIFIER_REJECTED with the verifier's last lines in `detail`,
   *   LOAD_FAILED
   */
  load(request: LoadRequest): Promise<void>;

  /** Writes key 0 of a slot, or empties it: one atomic step for packets. */
  setSlot(slotPin: string, programPin: string | null): Promise<void>;

  /**
   * Attaches a pinned program to a hook and pins the link. Idempotent when that program is already attached by that link.
   *
   * @throws AgentError INTERFACE_NOT_FOUND, HOOK_OCCUPIED naming the foreign program, ATTACH_FAILED
   */
  attach(hook: Hook, programPin: string, linkPin: string): Promise<void>;

  /** Replaces the attached program atomically and moves the link's pin. */
  retarget(hook: Hook, from: LinkRef, to: LinkRef): Promise<void>;

  /** Detaches and unpins; what is gone already is no error. Foreign programs and filters are never touched. */
  detach(hook: Hook, linkPin: string): Promise<void>;

  /** Applies a change to a map, all or nothing, and returns the change that takes it back. */
  writeMap(pin: string, change: MapChange): Promise<MapChange>;

  /** The value under a key, raw; undefined if there is none. Per-CPU maps give one value per possible CPU, concatenated. */
  readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined>;

  /** Makes `path` a further name of the object pinned at `pin`, atomically replacing what had the name. */
  publish(pin: string, path: string): Promise<void>;

  /** Takes a name away, and the directories that this leaves empty. */
  unpublish(path: string): Promise<void>;

  /** Resolves when every packet that was inside a program at the time of the call has left it. */
  grace(): Promise<void>;

  /**
   * Unpins everything below a generation's directory and waits until the kernel has let go of the program.
   *
   * @throws AgentError LEFTOVER naming what still exists
   */
  discard(dir: string, programId: number | undefined): Promise<void>;

  close(): Promise<void>;
}

export interface LinkRef {
  readonly program: string;
  readonly link: string;
}

export interface LoadRequest {
  readonly hook: Hook;
  /** The generation's directory: receives `prog`, `slot` and `maps/<name>`. */
  readonly dir: string;
  /** Path of the `.bpf.o` on disk. */
  readonly objectPath: string;
  /** Name of the program's function in the object. */
  readonly entryFunction: string;
  /** Name of the PROG_ARRAY that is the slot; '' for none. */
  readonly slotMap: string;
  /** Maps to take from elsewhere instead of creating them: map name to pin. */
  readonly share: readonly { readonly map: string; readonly pin: string }[];
  /** Entries to write before the program is pinned. */
  readonly fill: readonly MapArgs[];
}

/** Keys and values are raw bytes in hexadecimal. */
export interface MapChange {
  readonly set: readonly { readonly key: string; readonly value: string }[];
  readonly remove: readonly string[];
}
