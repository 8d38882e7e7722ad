import type { ForeignProgram } from '../../domain/foreign.js';
import { ATTACH_POINT_NAMES, type AttachPointName, type ChainHook } from '../../domain/hook.js';
import type { Observed, StoredEntries } from '../../domain/observed.js';
import type { OtherPrograms } from '../../domain/probe.js';
import type { LinkPosition } from '../../steps/step.js';
import type {
  CaptureRequest,
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
} from '../datapath.js';
import { openPin } from './abi/fd.js';
import { Devices } from './attach/devices.js';
import type { AttachOptions, TcMode } from './attach/driver.js';
import { ATTACH_DRIVERS } from './attach/drivers.js';
import { countRuns, runStats } from './diagnostics/run-stats.js';
import { MapLayouts } from './maps/layouts.js';
import { inverseOf, readEntries, readMap, writeMap } from './maps/maps.js';
import { readMaps } from './maps/read-maps.js';
import { setSlot } from './maps/slot.js';
import { discard, proveGone } from './objects/discard.js';
import { grace } from './objects/grace.js';
import { capture, handedOver, makeHandover } from './objects/handover.js';
import type { ObjectLoader } from './objects/loader.js';
import type { LoadEnvironment } from './objects/loader-protocol.js';
import { StateReader } from './observe.js';
import { ownProgramIds } from './pins/loads.js';
import { publish, unpin } from './pins/pins.js';
import { repin } from './pins/unpinned.js';
import { moveProbes } from './tracing/probes.js';

export interface LibbpfDatapathOptions {
  /** Where bpffs is mounted; see `ensureBpffs`. */
  readonly bpffs: string;
  /** Several datapaths of a process can share it. */
  readonly loader: ObjectLoader;
  /** How much memory the maps of one object may take, in bytes; any when absent. */
  readonly maxMapBytes?: number;
  /** How XDP attaches; `auto` when absent. */
  readonly xdp?: XdpMode;
  /** How TC attaches; `auto` when absent. */
  readonly tc?: TcMode;
}

/**
 * The kernel, driven by libbpf. It works on the network namespace of the process.
 *
 * It holds nothing open. Every call opens what it needs by its pin and closes it again, so that no descriptor of ours
 * keeps an object alive. The result of `countRuns` is held by its caller. Three things are remembered: which clsact
 * qdiscs were created here, because the kernel does not report that; the layouts of maps, so that they are read only
 * once; and what is pinned, as long as the kernel reports no change of it ({@link StateReader}).
 *
 * Objects are opened and loaded in another process, which a damaged object may crash; see {@link ObjectLoader}. All other
 * calls are synchronous inside, since they take microseconds. Only waiting for a grace period and waiting for a program to
 * disappear leave the event loop free.
 */
export class LibbpfDatapath implements Datapath {
  readonly kind = 'libbpf';
  readonly #options: AttachOptions;
  readonly #layouts = new MapLayouts();
  readonly #loader: ObjectLoader;
  readonly #maxMapBytes: number;
  readonly #state: StateReader;

  constructor({ loader, maxMapBytes = Number.MAX_SAFE_INTEGER, ...options }: LibbpfDatapathOptions) {
    this.#options = { xdp: 'auto', tc: 'auto', ...options, createdQdiscs: new Set() };
    this.#loader = loader;
    this.#maxMapBytes = maxMapBytes;
    this.#state = new StateReader(options.bpffs, this.#layouts);
  }

  get #environment(): LoadEnvironment {
    return { bpffs: this.#options.bpffs, maxMapBytes: this.#maxMapBytes };
  }

  async observe(cgroups: readonly string[] = []): Promise<Observed> {
    return this.#state.observe(cgroups);
  }

  load(request: LoadRequest): Promise<OtherPrograms> {
    return this.#loader.load({ kind: 'program', request, ...this.#environment });
  }

  loadProbes(request: LoadProbesRequest): Promise<OtherPrograms> {
    return this.#loader.load({ kind: 'probes', request, ...this.#environment });
  }

  async moveProbes(from: string, to: string): Promise<void> {
    moveProbes(from, to);
  }

  async makeHandover(dir: string, like: string | null): Promise<void> {
    makeHandover(dir, like, this.#options.bpffs);
  }

  async handedOver(dir: string): Promise<number | null> {
    return handedOver(dir);
  }

  async capture(request: CaptureRequest): Promise<void> {
    await capture(request, this.#options.bpffs, this.#layouts);
  }

  async setSlot(slotPin: string, programPin: string | null): Promise<void> {
    setSlot(slotPin, programPin);
  }

  async attach(
    hook: ChainHook,
    programPin: string,
    linkPin: string,
    place: LinkPosition | null = null,
    tell: (note: string) => void = () => {},
  ): Promise<void> {
    using program = openPin('prog', programPin);
    ATTACH_DRIVERS[hook.direction].attach(program, hook, linkPin, place, this.#options, tell);
  }

  async foreignAt(hook: ChainHook): Promise<readonly ForeignProgram[]> {
    const { targetId, checkFree, foreignAt } = ATTACH_DRIVERS[hook.direction];
    const devices = new Devices();
    const at = targetId(hook, devices.interfaces);
    if (at === undefined) return [];
    checkFree?.(hook, at, this.#options);
    return foreignAt?.(at, ownProgramIds(this.#options.bpffs), devices) ?? [];
  }

  ordered(): ReadonlySet<AttachPointName> {
    return new Set(ATTACH_POINT_NAMES.filter((attachPoint) => ATTACH_DRIVERS[attachPoint].isOrdered(this.#options)));
  }

  async retarget(hook: ChainHook, from: LinkRef, to: LinkRef): Promise<void> {
    using program = openPin('prog', to.program);
    ATTACH_DRIVERS[hook.direction].retarget(program, hook, from, to, this.#options);
  }

  async detach(hook: ChainHook, linkPin: string): Promise<void> {
    ATTACH_DRIVERS[hook.direction].detach(hook, linkPin, this.#options);
  }

  async writeMap(pin: string, change: MapChange): Promise<void> {
    writeMap(pin, change);
  }

  async inverseOf(pin: string, change: MapChange): Promise<MapChange> {
    return inverseOf(pin, change);
  }

  async readEntries(pin: string, keys: readonly string[]): Promise<StoredEntries> {
    return readEntries(pin, keys);
  }

  async readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined> {
    return readMap(pin, key);
  }

  async readMaps(reads: readonly MapRead[]): Promise<readonly (MapReading | undefined)[]> {
    return readMaps(reads);
  }

  async runStats(programPins: readonly string[]): Promise<ReadonlyMap<string, RunStats>> {
    return runStats(programPins);
  }

  async countRuns(): Promise<Disposable> {
    return countRuns();
  }

  async publish(pin: string, path: string): Promise<void> {
    publish(pin, path);
  }

  async unpublish(path: string): Promise<void> {
    unpin(path, this.#options.bpffs);
  }

  async grace(): Promise<void> {
    await grace();
  }

  async repin(dir: string, programId: number, mapIds: readonly number[]): Promise<void> {
    repin(dir, programId, mapIds);
  }

  async discard(dir: string): Promise<void> {
    await discard(dir, this.#options.bpffs);
  }

  async proveGone(ids: KernelIds): Promise<void> {
    await proveGone(ids);
  }

  async close(): Promise<void> {
    this.#state.close();
  }
}
