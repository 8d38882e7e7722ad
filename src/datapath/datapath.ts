import type { Hook } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { MonitoredMap } from '../domain/program.js';
import type { Claim, Fill, Place, ProbesTreatment } from '../domain/step.js';
import type { AgentError } from '../errors.js';

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
   * Opens the object, loads the entry program and the probes beside it and nothing else, attaches the probes, and pins all of it with
   * slot and maps. After a failure nothing of the directory exists.
   *
   * @throws AgentError OBJECT_INVALID, ENTRY_FUNCTION_NOT_FOUND, MAP_NOT_FOUND (of `fill`, `share` or `monitors`), SLOT_INVALID (`slotMap`
   *   absent or not a one-entry PROG_ARRAY), MAP_VALUE_INVALID, MAP_INCOMPATIBLE (of `share`), VERIFIER_REJECTED with the verifier's last lines in `detail`,
   *   LOAD_FAILED, ATTACH_FAILED (of a probe)
   */
  load(request: LoadRequest): Promise<void>;

  /**
   * Opens the object, loads its probes (or the one that `entryFunction` names), attaches each to what its section names, and pins them
   * with their maps. After a failure nothing of the directory exists.
   *
   * @throws AgentError as {@link load} does; ATTACH_FAILED where the kernel cannot have such probes, or has not got what one is for
   */
  loadProbes(request: LoadProbesRequest): Promise<void>;

  /**
   * Gives the probes that were loaded beside a program to another generation's directory, in one step; they go on meanwhile. Idempotent
   * where they are there already.
   */
  moveProbes(fromDir: string, toDir: string): Promise<void>;

  /**
   * Makes a generation's directory with an empty slot in it (`stagePin`), for a companion to put its program into.
   *
   * @param like pin of a program with which what is put there must agree in all that a tail call asks for; null: no matter
   */
  stage(dir: string, like: string | null): Promise<void>;

  /** Id of the program that stands on the stage of a directory; null while there is none. */
  staged(dir: string): Promise<number | null>;

  /**
   * Takes the program on a directory's stage over as if it had been loaded there: finds its slot, which it empties, and its maps, by what
   * it uses and by what is pinned under `claim`, and pins all of it. After a failure the directory is as {@link stage} made it.
   *
   * @throws AgentError LOAD_FAILED (no program there, or one of another kind), MAP_NOT_FOUND, SLOT_INVALID, MAP_VALUE_INVALID,
   *   MAP_INCOMPATIBLE (of `share`)
   */
  capture(request: CaptureRequest): Promise<void>;

  /** Writes key 0 of a slot, or empties it: one atomic step for packets. */
  setSlot(slotPin: string, programPin: string | null): Promise<void>;

  /**
   * Attaches a pinned program to a hook and pins the link. Idempotent when that program is already attached by that link. Several at one
   * hook are possible only where {@link ordersLinks}; each of them is another program.
   *
   * @param place among our own links there; none: behind everything that is there
   * @throws AgentError INTERFACE_NOT_FOUND, HOOK_OCCUPIED naming the foreign program, ATTACH_FAILED
   */
  attach(hook: Hook, programPin: string, linkPin: string, place?: Place | null): Promise<void>;

  /** Whether TC programs are attached by TCX links, of which a hook can have several, in an order that the kernel keeps. */
  ordersLinks(): boolean;

  /** Replaces the attached program atomically and moves the link's pin. Idempotent when the link is at `to` already. */
  retarget(hook: Hook, from: LinkRef, to: LinkRef): Promise<void>;

  /** Detaches and unpins; what is gone already is no error. Foreign programs and filters are never touched. */
  detach(hook: Hook, linkPin: string): Promise<void>;

  /** Applies a change to a map, all or nothing. */
  writeMap(pin: string, change: MapChange): Promise<void>;

  /** The change that would bring a map back to what it is now, were a change applied to it. */
  inverseOf(pin: string, change: MapChange): Promise<MapChange>;

  /** The value under a key, raw; undefined if there is none. Per-CPU maps give one value per possible CPU, concatenated. */
  readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined>;

  /**
   * Reads many maps in one pass, each opened once. Nothing is held open in between: what is open would keep a map in the kernel.
   *
   * @returns for each read what was found; undefined where another map or none is pinned now
   */
  readMaps(reads: readonly MapRead[]): Promise<readonly (MapReading | undefined)[]>;

  /**
   * What the kernel has counted of each pinned program, by its pin, since the program was loaded; without those that are gone. It counts
   * only while it is told to (see {@link countRuns}), and only what it runs itself: the run of an attached program includes all that it
   * calls by tail calls, and those programs are not counted (`bpf_prog_run` in include/linux/filter.h).
   */
  runStats(programPins: readonly string[]): Promise<ReadonlyMap<string, RunStats>>;

  /**
   * Has the kernel count the runs of all programs on the machine, ours and others', until what is returned is disposed of or the process
   * ends. Costs each run about 20 ns.
   *
   * @throws AgentError NO_PRIVILEGE without CAP_SYS_ADMIN
   */
  countRuns(): Promise<Disposable>;

  /** Makes `path` a further name of the object pinned at `pin`, atomically replacing what had the name. */
  publish(pin: string, path: string): Promise<void>;

  /** Takes a name away, and the directories that this leaves empty. */
  unpublish(path: string): Promise<void>;

  /** Resolves when every packet that was inside a program at the time of the call has left it. */
  grace(): Promise<void>;

  /**
   * Pins again what a running program has lost the pins of: the program, and maps that it uses.
   *
   * @throws AgentError KERNEL where the program is gone or does not use such a map
   */
  repin(dir: string, programId: number, mapIds: readonly number[]): Promise<void>;

  /** Unpins everything below a generation's directory; what is gone already is no error. */
  discard(dir: string): Promise<void>;

  /**
   * Waits until the kernel has let go of all of these, which nobody of us holds any more.
   *
   * @throws AgentError LEFTOVER naming what still exists, and who holds it
   */
  proveGone(ids: KernelIds): Promise<void>;

  close(): Promise<void>;
}

/** What to read of one map. */
export interface MapRead {
  readonly pin: string;
  /** Id of the map that is meant. */
  readonly mapId: number;
  /** Raw keys; or all that there are, up to so many. */
  readonly keys: readonly Uint8Array[] | { readonly atMost: number };
  /** Of a hash map, keys to be made before it is read, with a value of zeros, where they are not there. */
  readonly make?: readonly Uint8Array[];
}

export interface MapReading {
  readonly keys: readonly Uint8Array[];
  /** Under each key what {@link Datapath.readMap} would give; all zero where there is nothing under it. */
  readonly values: readonly Uint8Array[];
  /** From one CPU's value to the next, in bytes. */
  readonly stride: number;
  /** Whether there are more keys. */
  readonly more: boolean;
  /** Why the kernel refuses to read this map; then nothing was found. */
  readonly failure?: AgentError;
}

/** How XDP is asked to attach: in the driver, in the stack, or in the driver if it can. */
export type XdpMode = 'auto' | 'native' | 'generic';

/** Ids of objects in the kernel. */
export interface KernelIds {
  readonly programs: readonly number[];
  readonly maps: readonly number[];
  readonly links: readonly number[];
}

export interface LinkRef {
  readonly program: string;
  readonly link: string;
}

/** `run_cnt` and `run_time_ns` of `struct bpf_prog_info`; beyond 2^53 rounded. */
export interface RunStats {
  readonly count: number;
  /** Nanoseconds, of all CPUs together. */
  readonly timeNs: number;
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
  /**
   * Another generation's directory. Maps that ask to be pinned by their name (LIBBPF_PIN_BY_NAME) are taken from there where it has one
   * that is alike, unless they are in `share` or `fill`; a PROG_ARRAY never is.
   */
  readonly otherSide?: string;
  /** Entries to write before the program is pinned. */
  readonly fill: readonly Fill[];
  /** `attach` unless said. */
  readonly probes?: ProbesTreatment;
  /** What will be read of the program's maps, and must be there. */
  readonly monitors?: readonly MonitoredMap[];
}

export interface CaptureRequest extends Pick<LoadRequest, 'hook' | 'dir' | 'slotMap' | 'share' | 'fill' | 'monitors'> {
  /** Where the companion may have pinned maps, under their whole names. */
  readonly claim: Claim;
}

export interface LoadProbesRequest extends Pick<LoadRequest, 'dir' | 'objectPath' | 'share' | 'fill' | 'monitors'> {
  /** '' for all. */
  readonly entryFunction: string;
  readonly treatment: Exclude<ProbesTreatment, 'leave'>;
}

/** Keys and values are raw bytes in hexadecimal. */
export interface MapChange {
  readonly set: readonly { readonly key: string; readonly value: string }[];
  readonly remove: readonly string[];
}
