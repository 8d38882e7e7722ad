import { dirname } from 'node:path';
import type { ForeignProgram } from '../../domain/foreign.js';
import { type ChainHook, hookKey } from '../../domain/hook.js';
import {
  type Attachment,
  type LoadedProbes,
  type LoadedProgram,
  liveSubchains,
  type MapInfo,
  type Observed,
  programsOf,
} from '../../domain/observed.js';
import { tryOpenAny, tryOpenPin } from './abi/fd.js';
import { usersOf } from './abi/ids.js';
import { linkInfo, mapInfo, mapTypes } from './abi/info.js';
import { isGroup } from './attach/cgroup-skb.js';
import { Devices } from './attach/devices.js';
import { ATTACH_DRIVERS } from './attach/drivers.js';
import type { MapLayouts } from './maps/layouts.js';
import { LoadReader, linkPins, loadPlaces, publicPaths, readLoadedProbes } from './pins/loads.js';
import { Remembered } from './pins/remembered.js';
import { withLostProgram } from './pins/unpinned.js';
import { WatchedFolders } from './pins/watched-folders.js';

interface Hooked {
  readonly hook: ChainHook;
  readonly attachments: Attachment[];
  readonly loadedPrograms: LoadedProgram[];
}

/** Reads what is ours from the kernel and bpffs. It remembers what cannot have changed since the last time. */
export class StateReader {
  readonly #bpffs: string;
  readonly #layouts: MapLayouts;
  readonly #folders: WatchedFolders;
  readonly #loads: LoadReader;
  readonly #names = new Remembered<PublicName>();

  constructor(bpffs: string, layouts: MapLayouts) {
    this.#bpffs = bpffs;
    this.#layouts = layouts;
    this.#folders = new WatchedFolders(bpffs);
    this.#loads = new LoadReader(this.#folders, layouts);
  }

  /**
   * Reads everything; see `Datapath.observe`. The programs of a hook are in the order of their slots. A caller that
   * discards several in this order never waits for a program that a later one holds.
   *
   * What hooks, links and slots say is read each time, and so are interfaces. What is pinned is read again where the
   * kernel has reported a change.
   */
  observe(cgroups: readonly string[]): Observed {
    this.#folders.refresh();
    this.#loads.refresh();
    const devices = new Devices();
    const { interfaces } = devices;
    const { hooks, foreignLinks } = this.#readPins(devices);
    for (const hooked of hooks) {
      findLostPrograms(hooked);
      askHook(hooked, devices);
      const unlinked = readUnlinked(hooked, interfaces);
      if (unlinked !== undefined) hooked.attachments.push(unlinked);
    }
    const ordered = hooks.map((hooked) => {
      const foreign = foreignAt(hooked, devices);
      const loadedPrograms = inSlotOrder(hooked.loadedPrograms);
      return { ...hooked, loadedPrograms, ...(foreign.length > 0 && { foreign }) };
    });
    const groups = [...cgroups, ...ordered.flatMap(({ hook }) => ('cgroup' in hook ? [hook.cgroup] : []))];
    const { publicMaps, otherPins } = this.#readPublicNames();
    const probes = readLoadedProbes(this.#bpffs, this.#layouts, this.#folders);
    const orphans = orphansOf(publicMaps, ordered, probes);
    return {
      hooks: ordered,
      interfaces,
      ...(groups.length > 0 && { cgroups: new Set(groups.filter(isGroup)) }),
      publicMaps,
      ...(otherPins.size > 0 && { otherPins }),
      ...(orphans.length > 0 && { orphans }),
      ...(foreignLinks.length > 0 && { foreignLinks }),
      ...(probes.length > 0 && { probes }),
    };
  }

  /** Forgets everything. */
  close(): void {
    this.#folders.close();
  }

  /** Loads and links, as they are pinned, by hook. */
  #readPins(devices: Devices): { readonly hooks: readonly Hooked[]; readonly foreignLinks: readonly string[] } {
    const hooks = new Map<string, Hooked>();
    const at = (hook: ChainHook): Hooked => {
      const known = hooks.get(hookKey(hook)) ?? { hook, attachments: [], loadedPrograms: [] };
      hooks.set(hookKey(hook), known);
      return known;
    };
    const foreignLinks: string[] = [];
    for (const place of loadPlaces(this.#bpffs, this.#folders)) {
      at(place.hook).loadedPrograms.push(this.#loads.read(place));
    }
    for (const { hook, path } of linkPins(this.#bpffs, this.#folders)) {
      const attachment = hook === undefined ? undefined : readLink(path, hook, devices);
      if (hook === undefined || attachment === undefined) foreignLinks.push(path);
      else at(hook).attachments.push(attachment);
    }
    return { hooks: [...hooks.values()], foreignLinks };
  }

  #readPublicNames(): Required<Pick<Observed, 'publicMaps' | 'otherPins'>> {
    this.#names.refresh();
    const publicMaps = new Map<string, number>();
    const otherPins = new Set<string>();
    for (const path of publicPaths(this.#bpffs, this.#folders)) {
      const name = this.#names.of(path, [this.#folders.entriesOf(dirname(path))], () => readPublicName(path));
      if (name === 'other') otherPins.add(path);
      else if (name !== 'gone') publicMaps.set(path, name.mapId);
    }
    return { publicMaps, otherPins };
  }
}

/** What is pinned under a public name: a map, something else, or nothing any more. */
type PublicName = { readonly mapId: number } | 'other' | 'gone';

function readPublicName(path: string): PublicName {
  using pinned = tryOpenAny(path);
  if (pinned === undefined) return 'gone';
  return pinned.isA('map') ? { mapId: mapInfo(pinned.number).id } : 'other';
}

/** Finds programs whose pins were removed but that a link or a slot still holds. */
function findLostPrograms({ attachments, loadedPrograms }: Hooked): void {
  const pinned = new Set(loadedPrograms.map(({ programId }) => programId));
  const running = [
    ...attachments.map(({ programId }) => programId),
    ...loadedPrograms.flatMap(({ slot }) => slot?.next ?? []),
  ].filter((id) => id !== 0 && !pinned.has(id));
  if (running.length === 0) return;
  for (const [index, loaded] of loadedPrograms.entries()) {
    if (loaded.programId === undefined) loadedPrograms[index] = withLostProgram(loaded, running);
  }
}

/** See `Observed.orphans`. Searched only if a public name leads to a map that belongs to no loaded program. */
function orphansOf(
  publicMaps: ReadonlyMap<string, number>,
  hooks: readonly Hooked[],
  probes: readonly LoadedProbes[],
): MapInfo[] {
  const loads = [...hooks.flatMap((hook) => hook.loadedPrograms), ...probes];
  const slots = hooks.flatMap((hook) => hook.loadedPrograms.map(({ slot }) => slot?.mapId));
  const known = new Set([...slots, ...loads.flatMap(({ maps }) => maps.map(({ id }) => id))]);
  const unknown = new Map([...publicMaps].filter(([, id]) => !known.has(id)).map(([path, id]) => [id, path]));
  if (unknown.size === 0) return [];
  for (const id of usersOf(new Set(unknown.keys())).flatMap(({ mapIds }) => mapIds)) unknown.delete(id);
  return [...unknown.values()].flatMap((path) => {
    using map = tryOpenPin('map', path);
    return map === undefined ? [] : [{ ...mapInfo(map.number), name: mapTypes(map.number).name }];
  });
}

/** Each program before the one that its slot names; in any order if slots form a loop. */
function inSlotOrder(loadedPrograms: readonly LoadedProgram[]): LoadedProgram[] {
  const byProgram = new Map(loadedPrograms.map((loaded) => [loaded.programId, loaded]));
  const seen = new Set<LoadedProgram>();
  const ordered: LoadedProgram[] = [];
  const visit = (loaded: LoadedProgram | undefined): void => {
    if (loaded === undefined || seen.has(loaded)) return;
    seen.add(loaded);
    const next = loaded.slot?.next ?? null;
    if (next !== null) visit(byProgram.get(next));
    ordered.unshift(loaded);
  };
  for (const loaded of loadedPrograms) visit(loaded);
  return ordered;
}

/** As the link says. It was detached, or its interface was removed, renamed or created again, if it has another target. */
function readLink(path: string, hook: ChainHook, devices: Devices): Attachment | undefined {
  using link = tryOpenPin('link', path);
  if (link === undefined) return undefined;
  const info = linkInfo(link.number);
  const driver = ATTACH_DRIVERS[hook.direction];
  if (info.type !== driver.linkType) return undefined;
  const { id: linkId, programId } = info;
  const targetId = driver.targetId(hook, devices.interfaces);
  return { linkPin: path, linkId, programId, ...driver.attachmentOf(info, targetId, devices) };
}

/**
 * Attached is what the hook itself has, in its order. A link alone does not tell: if its interface is moved to another
 * network namespace, an interface that is created here can get both its name and its index.
 */
function askHook({ hook, attachments }: Hooked, devices: Devices): void {
  if (!attachments.some(({ attached }) => attached)) return;
  const driver = ATTACH_DRIVERS[hook.direction];
  const targetId = driver.targetId(hook, devices.interfaces);
  const order = targetId === undefined ? [] : driver.programsAt(hook, targetId, devices);
  for (const [index, { mode, ...attachment }] of attachments.entries()) {
    const attached = attachment.attached && order.includes(attachment.programId);
    attachments[index] = { ...attachment, attached, ...(attached && mode !== undefined && { mode }) };
  }
  // A program is attached to a hook only once, so its id gives its position.
  attachments.sort((a, b) => order.indexOf(a.programId) - order.indexOf(b.programId));
}

function foreignAt({ hook, attachments }: Hooked, devices: Devices): readonly ForeignProgram[] {
  const driver = ATTACH_DRIVERS[hook.direction];
  const own = attachments.filter(({ attached }) => attached).map(({ programId }) => programId);
  const targetId = driver.targetId(hook, devices.interfaces);
  return own.length === 0 || targetId === undefined ? [] : (driver.foreignAt?.(targetId, new Set(own), devices) ?? []);
}

/** Queried only if links do not hold everything: libbpf writes to stderr for every interface without a qdisc. */
function readUnlinked(
  { hook, attachments, loadedPrograms }: Hooked,
  present: ReadonlyMap<string, number>,
): Attachment | undefined {
  const { unlinked, targetId } = ATTACH_DRIVERS[hook.direction];
  const at = targetId(hook, present);
  if (unlinked === undefined || at === undefined) return undefined;
  const held = programsOf(liveSubchains({ hook, attachments, loadedPrograms }));
  if (held.length > 0 && held.length === loadedPrograms.length) return undefined;
  const programId = unlinked(at);
  if (programId === undefined || !loadedPrograms.some((loaded) => loaded.programId === programId)) return undefined;
  return { kind: 'clsact', linkPin: '', linkId: 0, programId, attached: true };
}
