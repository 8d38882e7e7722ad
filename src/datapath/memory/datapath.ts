import { ATTACH_POINTS } from '../../domain/attach-points/registry.js';
import type { ForeignProgram } from '../../domain/foreign.js';
import { ATTACH_POINT_NAMES, type AttachPointName, attachPointOf, type ChainHook } from '../../domain/hook.js';
import { checkMapBytes, PROG_ARRAY } from '../../domain/map-types.js';
import type { MapShape } from '../../domain/mapvalue.js';
import type { Observed, StoredEntries } from '../../domain/observed.js';
import { handoverPin, mapPin, mapSegment, programPin, slotPin } from '../../domain/pins.js';
import { type OtherPrograms, ofChains, ofOtherKinds } from '../../domain/probe.js';
import { AgentError } from '../../errors.js';
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
} from '../datapath.js';
import { checkEntrySection, hasFrags, unlikeItsChain } from '../elf/bpf-elf.js';
import { MemoryHandovers } from './handovers.js';
import { MemoryLinks, type MemoryLinksOptions } from './links.js';
import { changeMap, fillMaps, inverseOfChange, type MemoryMap, makeMaps, readingOf, sharedByName } from './map.js';
import { type GlobalData, openObjectFile, slotOf } from './object.js';
import { heldPrograms, observeMemory } from './observe.js';
import { MemoryPins } from './pins.js';
import { chooseProbes, MemoryProbes, probeFunctions, programsNamed, wantedIn } from './probes.js';

/** The map of interfaces may change while the datapath is in use. */
export interface MemoryDatapathOptions extends MemoryLinksOptions {
  readonly bpffs: string;
  /** As for the kernel; any when absent. */
  readonly maxMapBytes?: number;
}

/**
 * A datapath without a kernel, for tests of planning and for machines without privileges. It keeps programs, slots,
 * maps and links by pin path and reads real object files. It runs no packets and verifies nothing. Everything else that
 * it promises is tested by the contract suite, on the kernel too.
 */
export class MemoryDatapath implements Datapath {
  readonly kind = 'memory';
  readonly #options: MemoryDatapathOptions;
  readonly #pins = new MemoryPins();
  readonly #links: MemoryLinks;
  readonly #handovers = new MemoryHandovers();
  readonly #probes = new MemoryProbes(() => this.#nextId());
  #lastId = 0;

  constructor(options: MemoryDatapathOptions) {
    this.#options = options;
    this.#links = new MemoryLinks(options, () => this.#nextId());
  }

  async observe(cgroups: readonly string[] = []): Promise<Observed> {
    const { bpffs, interfaces } = this.#options;
    const [pins, links, handovers, probes] = [this.#pins, this.#links, this.#handovers, this.#probes];
    return observeMemory({ bpffs, interfaces, pins, links, handovers, probes }, cgroups);
  }

  async load(request: LoadRequest): Promise<OtherPrograms> {
    const { hook, dir, objectPath, entryFunction, slotMap, probes: treatment = 'attach', like = null } = request;
    const object = await openObjectFile(objectPath);
    const slot = slotOf(object, entryFunction, slotMap);
    const section = object.sections.get(entryFunction) ?? '';
    const { programs, programType } = attachPointOf(hook);
    checkEntrySection(section, entryFunction, programs);
    const other = like === null ? undefined : this.#pins.tryProgram(like);
    if (other !== undefined && other.hasFrags !== hasFrags(section))
      throw unlikeItsChain(entryFunction, section, programType);
    const functions = treatment === 'leave' ? [] : probeFunctions(object).filter((name) => name !== entryFunction);
    const used = object.uses.get(entryFunction);
    const declared = object.maps.filter(
      ({ name, type }) => name !== slotMap && (type !== PROG_ARRAY || used?.has(name) === true),
    );
    const byName = sharedByName(declared, object, request, (pin) => this.#pins.tryMap(pin));
    const maps = this.#makeMaps(declared, object.globals, { ...request, byName });
    const own = slot && { id: this.#nextId(), declared: slot, entries: new Map<string, string>() };
    this.#pins.pin(programPin(dir), { id: this.#nextId(), hook, maps, hasFrags: hasFrags(section), slot: own });
    if (own !== undefined) this.#pins.pin(slotPin(dir), own);
    for (const map of maps) this.#pins.pin(mapPin(dir, map.declared.name), map);
    if (treatment === 'attach') this.#probes.attach(dir, functions);
    const rest = wantedIn(object).filter(({ name }) => name !== entryFunction && !object.tailCalled.has(name));
    return { probes: programsNamed(object, functions), others: ofOtherKinds(rest) };
  }

  async loadProbes(request: LoadProbesRequest): Promise<OtherPrograms> {
    const { dir, objectPath, entryFunction, treatment } = request;
    const object = await openObjectFile(objectPath);
    const functions = chooseProbes(object, entryFunction);
    const maps = this.#makeMaps(object.maps, object.globals, request);
    for (const map of maps) this.#pins.pin(mapPin(dir, map.declared.name), map);
    if (treatment === 'attach') this.#probes.attach(dir, functions);
    const rest = entryFunction === '' ? wantedIn(object).filter(({ name }) => !object.tailCalled.has(name)) : [];
    return { probes: programsNamed(object, functions), others: ofChains(rest) };
  }

  async moveProbes(from: string, to: string): Promise<void> {
    this.#probes.move(from, to);
  }

  /** The compatibility with `like` is not checked. */
  async makeHandover(dir: string, _like: string | null): Promise<void> {
    this.#handovers.make(dir);
  }

  async handedOver(dir: string): Promise<number | null> {
    return this.#handovers.at(dir)?.id ?? null;
  }

  /**
   * Puts a program into a handover slot as a companion would: one without maps, which has any slot that is requested.
   */
  imitateLoading(dir: string, hook: ChainHook): void {
    this.#handovers.put(handoverPin(dir), { id: this.#nextId(), hook, maps: [], hasFrags: false, slot: 'any' });
  }

  async capture(request: CaptureRequest): Promise<void> {
    const { dir, slotMap } = request;
    const program = this.#handovers.fitting(request, (pin) => this.#pins.map(pin));
    this.#pins.checkNoneHas(program.slot);
    fillMaps(program.maps, request, this.#options.interfaces);
    const declared = { name: slotMap, type: PROG_ARRAY, keySize: 4, valueSize: 4, maxEntries: 1 };
    const { slot = 'any' } = program;
    const own = slot === 'any' ? { id: this.#nextId(), declared, entries: new Map<string, string>() } : slot;
    own.entries.clear();
    this.#pins.pin(programPin(dir), program);
    if (slotMap !== '') this.#pins.pin(slotPin(dir), own);
    for (const map of program.maps) this.#pins.pin(mapPin(dir, map.declared.name), map);
  }

  async setSlot(slot: string, program: string | null): Promise<void> {
    if (this.#handovers.put(slot, program === null ? null : this.#pins.program(program))) return;
    const { entries } = this.#pins.map(slot);
    if (program === null) entries.delete('next');
    else entries.set('next', String(this.#pins.program(program).id));
  }

  async attach(hook: ChainHook, program: string, link: string, place: LinkPosition | null = null): Promise<void> {
    this.#links.attach(hook, this.#pins.program(program).id, link, place);
  }

  /** There are no foreign programs. */
  async foreignAt(_hook: ChainHook): Promise<readonly ForeignProgram[]> {
    return [];
  }

  ordered(): ReadonlySet<AttachPointName> {
    return new Set(ATTACH_POINT_NAMES.filter((attachPoint) => ATTACH_POINTS[attachPoint].order !== 'never'));
  }

  async retarget(_hook: ChainHook, from: LinkRef, to: LinkRef): Promise<void> {
    this.#links.retarget(from.link, to.link, this.#pins.program(to.program).id);
  }

  async detach(_hook: ChainHook, link: string): Promise<void> {
    this.#links.detach(link);
  }

  async writeMap(pin: string, change: MapChange): Promise<void> {
    changeMap(this.#pins.map(pin), change);
  }

  async inverseOf(pin: string, change: MapChange): Promise<MapChange> {
    return inverseOfChange(this.#pins.map(pin), change);
  }

  async readEntries(pin: string, keys: readonly string[]): Promise<StoredEntries> {
    const { entries } = this.#pins.map(pin);
    return new Map(keys.map((key) => [key, entries.get(key) ?? null]));
  }

  async readMap(pin: string, key: Uint8Array): Promise<Uint8Array | undefined> {
    const value = this.#pins.map(pin).entries.get(Buffer.from(key).toString('hex'));
    return value === undefined ? undefined : Buffer.from(value, 'hex');
  }

  async readMaps(reads: readonly MapRead[]): Promise<readonly (MapReading | undefined)[]> {
    return reads.map((read) => {
      const map = this.#pins.tryMap(read.pin);
      return map?.id === read.mapId ? readingOf(map, read) : undefined;
    });
  }

  /** No program runs, so nothing is counted. */
  async runStats(programPins: readonly string[]): Promise<ReadonlyMap<string, RunStats>> {
    return new Map(programPins.filter((pin) => this.#pins.has(pin)).map((pin) => [pin, { count: 0, timeNs: 0 }]));
  }

  async countRuns(): Promise<Disposable> {
    return { [Symbol.dispose]: () => undefined };
  }

  async publish(pin: string, path: string): Promise<void> {
    this.#pins.pin(path, this.#pins.map(pin));
  }

  async unpublish(path: string): Promise<void> {
    this.#pins.unpin(path);
  }

  async grace(): Promise<void> {}

  async repin(dir: string, programId: number, mapIds: readonly number[]): Promise<void> {
    const held = heldPrograms({ pins: this.#pins, links: this.#links }).filter((id) => id === programId);
    const program = this.#pins.tryProgram(programPin(dir)) ?? this.#pins.withIds(held)[0];
    const maps = program?.maps.filter(({ id }) => mapIds.includes(id)) ?? [];
    if (program?.id !== programId || maps.length < mapIds.length) {
      throw new AgentError('KERNEL', `Program ${programId} of ${dir} is gone, or does not use these maps`);
    }
    for (const map of maps) this.#pins.pin(mapPin(dir, map.declared.name), map);
    this.#pins.pin(programPin(dir), program);
  }

  /** An object without a pin is gone. */
  async proveGone(gone: KernelIds): Promise<void> {
    const words = [...this.#pins.held(gone), ...this.#links.held(gone), ...this.#probes.held(gone)];
    if (words.length === 0) return;
    throw new AgentError('LEFTOVER', words.join('; '));
  }

  async discard(dir: string): Promise<void> {
    this.#pins.discard(dir);
    this.#probes.discard(dir);
    this.#handovers.discard(dir);
  }

  async close(): Promise<void> {}

  #makeMaps(
    declared: readonly MapShape[],
    globals: readonly GlobalData[],
    request: Parameters<typeof makeMaps>[2],
  ): MemoryMap[] {
    const { maxMapBytes = Number.MAX_SAFE_INTEGER } = this.#options;
    const shared = new Set([...request.share, ...(request.byName ?? [])].map(({ map }) => mapSegment(map)));
    const shapes = [...declared, ...globals.map(({ shape }) => shape)];
    checkMapBytes(
      shapes.filter(({ name }) => !shared.has(mapSegment(name))),
      maxMapBytes,
    );
    const taken = (pin: string) => this.#pins.map(pin);
    return makeMaps(declared, globals, request, taken, () => this.#nextId(), this.#options.interfaces);
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }
}
