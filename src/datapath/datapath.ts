import type { ForeignProgram } from '../domain/foreign.js';
import type { AttachPointName, ChainHook } from '../domain/hook.js';
import type { Observed, StoredEntries } from '../domain/observed.js';
import type { OtherPrograms } from '../domain/probe.js';
import type { MonitoredMap } from '../domain/program.js';
import type { AgentError } from '../errors.js';
import type { Claim, LinkPosition, LocatedMapArgs, ProbesTreatment } from '../steps/step.js';

/**
 * The kernel as the agent sees it: a small set of operations that address objects by pin path. `libbpf/` drives the
 * real kernel. `memory/` imitates it, for tests of planning and for machines without privileges. One contract suite
 * tests both.
 *
 * All methods reject with an `AgentError` (`KERNEL`, or a more specific code as stated). A method that fails leaves
 * nothing half done.
 */
export interface Datapath {
  readonly kind: 'libbpf' | 'memory';

  /**
   * Reads everything that is ours: loads, slots, links and filters, public map names, interfaces.
   *
   * @param cgroups paths of control groups whose existence is checked too, in addition to those that our objects refer
   *   to
   */
  observe(cgroups?: readonly string[]): Promise<Observed>;

  /**
   * Opens the object and loads the entry program and the probes beside it, and no other program. Attaches the probes.
   * Pins the programs, the slot and the maps. After a failure the directory does not exist.
   *
   * @returns what else the object has; programs of kinds that the agent does not attach are left to a companion
   * @throws AgentError OBJECT_INVALID, ENTRY_FUNCTION_NOT_FOUND, MAP_NOT_FOUND (of `fill`, `share` or `monitors`),
   *   SLOT_INVALID (`slotMap` is missing or is not a one-entry PROG_ARRAY), MAP_VALUE_INVALID, MAP_INCOMPATIBLE (of
   *   `share`), MAPS_TOO_LARGE, VERIFIER_REJECTED with the verifier's last lines in `detail`, LOAD_FAILED (also for a
   *   program that is not compatible with `like`), ATTACH_FAILED (of a probe)
   */
  load(request: LoadRequest): Promise<OtherPrograms>;

  /**
   * Opens the object, loads its probes (or only the one that `entryFunction` names), attaches each to the target in its
   * section name, and pins them with their maps. After a failure the directory does not exist.
   *
   * @throws AgentError as {@link load} does; ATTACH_FAILED if the kernel does not support such probes, or lacks the
   *   target of one
   */
  loadProbes(request: LoadProbesRequest): Promise<OtherPrograms>;

  /**
   * Moves the probes that were loaded beside a program to another load's directory, in one step. They keep
   * running. Idempotent if they have been moved already.
   */
  moveProbes(fromDir: string, toDir: string): Promise<void>;

  /**
   * Makes a load's directory with an empty slot in it (`handoverPin`), into which a companion puts its program.
   *
   * @param like pin of a program; the companion's program must be compatible with it for tail calls. null: no
   *   requirement
   */
  makeHandover(dir: string, like: string | null): Promise<void>;

  /** Id of the program in the handover slot of a directory; null if there is none. */
  handedOver(dir: string): Promise<number | null>;

  /**
   * Takes over the program in a directory's handover slot as if it had been loaded there. Finds its slot and its maps,
   * among the maps that it uses and those pinned under `claim`. Empties the slot and pins everything. After a failure
   * the directory is as {@link makeHandover} made it.
   *
   * @throws AgentError LOAD_FAILED (no program there, or one of another type), MAP_NOT_FOUND, SLOT_INVALID,
   *   MAP_VALUE_INVALID, MAP_INCOMPATIBLE (of `share`)
   */
  capture(request: CaptureRequest): Promise<void>;

  /** Writes or deletes key 0 of a slot. For packets this is one atomic step. */
  setSlot(slotPin: string, programPin: string | null): Promise<void>;

  /**
   * Attaches a pinned program to a hook and pins the link. Idempotent if this link already attaches that program.
   * Several links at one hook are possible only where {@link ordered} says so, each with a different program.
   *
   * By BPF_LINK_CREATE, or by a TC filter.
   *
   * @param place position among our own links there; `null`: behind everything that is attached
   * @param tell takes what people should know about the way in which it is attached, as a sentence
   * @throws AgentError INTERFACE_NOT_FOUND, CGROUP_NOT_FOUND, HOOK_OCCUPIED naming the foreign program, ATTACH_FAILED
   */
  attach(
    hook: ChainHook,
    programPin: string,
    linkPin: string,
    place?: LinkPosition | null,
    tell?: (note: string) => void,
  ): Promise<void>;

  /**
   * What is at a hook and not ours, in order, as a chain would have it if it were attached now.
   *
   * @throws AgentError HOOK_OCCUPIED as {@link attach} does
   */
  foreignAt(hook: ChainHook): Promise<readonly ForeignProgram[]>;

  /** The attach points at which a hook can have several of our links, in an order that the kernel keeps. */
  ordered(): ReadonlySet<AttachPointName>;

  /** Replaces the attached program atomically (BPF_LINK_UPDATE) and moves the link's pin. Idempotent if the link is at `to` already. */
  retarget(hook: ChainHook, from: LinkRef, to: LinkRef): Promise<void>;

  /** Detaches and unpins. It is no error if the link is gone. Foreign programs and filters are never touched. */
  detach(hook: ChainHook, linkPin: string): Promise<void>;

  /** Applies a change to a map: all of it or nothing. */
  writeMap(pin: string, change: MapChange): Promise<void>;

  /** The change that would restore the map's present content after `change` is applied. */
  inverseOf(pin: string, change: MapChange): Promise<MapChange>;

  /** What a map holds under exactly these keys, in hexadecimal. Per-CPU maps have a value for each possible CPU. */
  readEntries(pin: string, keys: readonly string[]): Promise<StoredEntries>;

  /**
   * The raw value under a key; undefined if there is none. Per-CPU maps give one value for each possible CPU,
   * concatenated.
   */
  readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined>;

  /**
   * Reads many maps in one pass and opens each of them once. Nothing stays open between two passes: an open descriptor
   * would keep a map in the kernel.
   *
   * @returns a reading for each read; undefined if another map or none is pinned there now
   */
  readMaps(reads: readonly MapRead[]): Promise<readonly (MapReading | undefined)[]>;

  /**
   * The kernel's run counters of each pinned program since it was loaded, by pin. Programs that are gone are left out.
   * The kernel counts only while this is switched on (see {@link countRuns}), and only programs that it runs itself.
   * The run of an attached program includes all programs that it reaches by tail calls; those are not counted
   * (`bpf_prog_run` in include/linux/filter.h).
   */
  runStats(programPins: readonly string[]): Promise<ReadonlyMap<string, RunStats>>;

  /**
   * Has the kernel count the runs of all programs on the machine, ours and foreign ones, until the result is disposed
   * of or the process ends. This costs each run about 20 ns.
   *
   * @throws AgentError NO_PRIVILEGE without CAP_SYS_ADMIN
   */
  countRuns(): Promise<Disposable>;

  /** Makes `path` another name of the object pinned at `pin`. Atomically replaces whatever had that name. */
  publish(pin: string, path: string): Promise<void>;

  /** Removes a name, and the directories that become empty. */
  unpublish(path: string): Promise<void>;

  /** Resolves when every packet that was inside a program at the time of the call has left it. */
  grace(): Promise<void>;

  /**
   * Pins a running program and maps that it uses again, after their pins were removed.
   *
   * @throws AgentError KERNEL if the program is gone or does not use such a map
   */
  repin(dir: string, programId: number, mapIds: readonly number[]): Promise<void>;

  /** Unpins everything below a load's directory. It is no error if it is gone. */
  discard(dir: string): Promise<void>;

  /**
   * Waits until the kernel has freed all of these objects, which the agent no longer holds.
   *
   * @throws AgentError LEFTOVER naming what still exists, and who holds it
   */
  proveGone(ids: KernelIds): Promise<void>;

  close(): Promise<void>;
}

/** What to read of one map. */
export interface MapRead {
  readonly pin: string;
  /** Id of the map that is expected at the pin. */
  readonly mapId: number;
  /** Raw keys; or all keys, up to this number. */
  readonly keys: readonly Uint8Array[] | { readonly atMost: number };
  /** For a hash map: keys to create, with a value of zeros, before the map is read, if they do not exist. */
  readonly make?: readonly Uint8Array[];
}

export interface MapReading {
  readonly keys: readonly Uint8Array[];
  /** For each key what {@link Datapath.readMap} would return; all zeros if the key does not exist. */
  readonly values: readonly Uint8Array[];
  /** Distance between the values of two CPUs, in bytes. */
  readonly stride: number;
  /** Whether the map has more keys. */
  readonly more: boolean;
  /** Why the kernel refuses to read this map; then keys and values are empty. */
  readonly failure?: AgentError;
}

/**
 * How XDP attaches: in the driver (`native`), in the network stack (`generic`), or in the driver and, where that refuses,
 * in the network stack (`auto`).
 */
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

/** `run_cnt` and `run_time_ns` of `struct bpf_prog_info`; rounded beyond 2^53. */
export interface RunStats {
  readonly count: number;
  /** Nanoseconds, the sum over all CPUs. */
  readonly timeNs: number;
}

export interface LoadRequest {
  readonly hook: ChainHook;
  /** The load's directory: receives `prog`, `slot` and `maps/<name>`. */
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
   * Directories of other loads. A map that asks to be pinned by its name (LIBBPF_PIN_BY_NAME) is taken from the
   * first one that has a compatible one. Maps in `share` or `fill` are not, and a PROG_ARRAY never is.
   */
  readonly otherSides?: readonly string[];
  /** Entries to write before the program is pinned. Load-time constants among them are set before it is loaded. */
  readonly fill: readonly LocatedMapArgs[];
  /** Default: `attach`. */
  readonly probes?: ProbesTreatment;
  /** What will be monitored: it must exist. Keys under which the program counts are made in maps that are new. */
  readonly monitors?: readonly MonitoredMap[];
  /** Pin of a program with which this one must be compatible for tail calls. null, or nothing pinned: no requirement. */
  readonly like?: string | null;
}

export interface CaptureRequest extends Pick<LoadRequest, 'hook' | 'dir' | 'slotMap' | 'share' | 'fill' | 'monitors'> {
  /** Where the companion may have pinned maps, under their full names. */
  readonly claim: Claim;
}

export interface LoadProbesRequest extends Pick<LoadRequest, 'dir' | 'objectPath' | 'share' | 'fill' | 'monitors'> {
  /** '' for all. */
  readonly entryFunction: string;
  readonly treatment: Exclude<ProbesTreatment, 'leave'>;
}

/** Keys and values are raw bytes in hexadecimal. */
export interface MapChange {
  readonly set: readonly MapEntry[];
  readonly remove: readonly string[];
  /** Keys that get a value of zeros if they do not exist. Existing values stay, also those written at the same moment. */
  readonly make?: readonly string[];
}

export interface MapEntry {
  readonly key: string;
  readonly value: string;
  /** Where in the value these bytes are written; the rest stays. Absent: it is the whole value. */
  readonly offset?: number;
}
