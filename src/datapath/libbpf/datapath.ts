import type { Hook } from '../../domain/hook.js';
import type { Observed } from '../../domain/observed.js';
import type { Place } from '../../domain/step.js';
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
import { attach, detach, ordersLinks, retarget, type TcMode } from './attach.js';
import { discard, proveGone } from './discard.js';
import { grace } from './grace.js';
import { loadGeneration, loadProbes } from './load.js';
import { inverseOf, readMap, writeMap } from './maps.js';
import { observe } from './observe.js';
import { publish, unpin } from './pins.js';
import { moveProbes } from './probes.js';
import { readMaps } from './read-maps.js';
import { countRuns, runStats } from './run-stats.js';
import { setSlot } from './slot.js';
import { capture, stage, staged } from './staging.js';
import { repin } from './unpinned.js';

export interface LibbpfDatapathOptions {
  /** Where bpffs is mounted; see `ensureBpffs`. */
  readonly bpffs: string;
  /** How XDP attaches; `auto` when absent. */
  readonly xdp?: XdpMode;
  /** How TC attaches; `auto` when absent. */
  readonly tc?: TcMode;
}

/**
 * The kernel, driven by libbpf. It works on the network namespace that the process is in.
 *
 * It remembers nothing: every call opens what it needs by its pin and closes it again, so that no descriptor of ours keeps
 * anything alive. Only what `countRuns` returns is held by who asked for it. Calls are synchronous inside, as they take microseconds; only loading, waiting for a grace period and seeing a
 * program gone let the event loop go on.
 */
export class LibbpfDatapath implements Datapath {
  readonly kind = 'libbpf';
  readonly #options: Required<LibbpfDatapathOptions>;

  constructor(options: LibbpfDatapathOptions) {
    this.#options = { xdp: 'auto', tc: 'auto', ...options };
  }

  async observe(): Promise<Observed> {
    return observe(this.#options.bpffs);
  }

  async load(request: LoadRequest): Promise<void> {
    await loadGeneration(request, this.#options.bpffs);
  }

  async loadProbes(request: LoadProbesRequest): Promise<void> {
    await loadProbes(request, this.#options.bpffs);
  }

  async moveProbes(from: string, to: string): Promise<void> {
    moveProbes(from, to);
  }

  async stage(dir: string, like: string | null): Promise<void> {
    stage(dir, like, this.#options.bpffs);
  }

  async staged(dir: string): Promise<number | null> {
    return staged(dir);
  }

  async capture(request: CaptureRequest): Promise<void> {
    await capture(request, this.#options.bpffs);
  }

  async setSlot(slotPin: string, programPin: string | null): Promise<void> {
    setSlot(slotPin, programPin);
  }

  async attach(hook: Hook, programPin: string, linkPin: string, place: Place | null = null): Promise<void> {
    attach(hook, programPin, linkPin, place, this.#options);
  }

  ordersLinks(): boolean {
    return ordersLinks(this.#options.tc);
  }

  async retarget(hook: Hook, from: LinkRef, to: LinkRef): Promise<void> {
    retarget(hook, from, to, this.#options);
  }

  async detach(hook: Hook, linkPin: string): Promise<void> {
    detach(hook, linkPin, this.#options);
  }

  async writeMap(pin: string, change: MapChange): Promise<void> {
    writeMap(pin, change);
  }

  async inverseOf(pin: string, change: MapChange): Promise<MapChange> {
    return inverseOf(pin, change);
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
    discard(dir, this.#options.bpffs);
  }

  async proveGone(ids: KernelIds): Promise<void> {
    await proveGone(ids);
  }

  /** Nothing is held between calls. */
  async close(): Promise<void> {}
}
