import { type Hook, hookKey } from '../../domain/hook.js';
import {
  type Attachment,
  type Generation,
  liveStrands,
  type MapInfo,
  type Observed,
  type ProbeGeneration,
  programsOf,
} from '../../domain/observed.js';
import { filteringProgram } from './clsact.js';
import { tryOpenPin } from './fd.js';
import { generationPlaces, linkPins, publicPaths, readGeneration, readProbeGenerations } from './generations.js';
import { usersOf } from './ids.js';
import { BPF_LINK_TYPE_TCX, BPF_LINK_TYPE_XDP, linkInfo, mapInfo, mapTypes } from './info.js';
import { interfaces } from './interfaces.js';
import { tcxPrograms } from './tcx.js';
import { withLostProgram } from './unpinned.js';
import { xdpModeOf } from './xdp.js';

interface Hooked {
  readonly hook: Hook;
  readonly attachments: Attachment[];
  readonly generations: Generation[];
}

/**
 * Reads everything that is ours from the kernel and bpffs; see `Datapath.observe`. The generations of a hook come in the order of
 * their slots, so that whoever discards several in this order never waits for a program that a later one holds.
 */
export function observe(bpffs: string): Observed {
  const present = interfaces();
  const hooks = new Map<string, Hooked>();
  const at = (hook: Hook): Hooked => {
    const known = hooks.get(hookKey(hook)) ?? { hook, attachments: [], generations: [] };
    hooks.set(hookKey(hook), known);
    return known;
  };
  for (const place of generationPlaces(bpffs)) at(place.hook).generations.push(readGeneration(place));
  for (const { hook, path } of linkPins(bpffs)) {
    const attachment = readLink(path, present.get(hook.iface));
    if (attachment !== undefined) at(hook).attachments.push(attachment);
  }
  for (const hooked of hooks.values()) {
    findLostPrograms(hooked);
    sortByOrder(hooked, present);
    const filter = readFilter(hooked, present);
    if (filter !== undefined) hooked.attachments.push(filter);
  }
  const ordered = [...hooks.values()].map((hooked) => ({ ...hooked, generations: inSlotOrder(hooked.generations) }));
  const publicMaps = readPublicMaps(bpffs);
  const probes = readProbeGenerations(bpffs);
  const orphans = orphansOf(publicMaps, ordered, probes);
  return {
    hooks: ordered,
    interfaces: present,
    publicMaps,
    ...(orphans.length > 0 && { orphans }),
    ...(probes.length > 0 && { probes }),
  };
}

/** Programs whose pins somebody has removed, and that a link or a slot still holds. */
function findLostPrograms({ attachments, generations }: Hooked): void {
  const pinned = new Set(generations.map(({ programId }) => programId));
  const running = [
    ...attachments.map(({ programId }) => programId),
    ...generations.flatMap(({ slot }) => slot?.next ?? []),
  ].filter((id) => id !== 0 && !pinned.has(id));
  if (running.length === 0) return;
  for (const [index, generation] of generations.entries()) {
    if (generation.programId === undefined) generations[index] = withLostProgram(generation, running);
  }
}

/** See `Observed.orphans`. Looked for only where a name is held by a map that is no generation's. */
function orphansOf(
  publicMaps: ReadonlyMap<string, number>,
  hooks: readonly Hooked[],
  probes: readonly ProbeGeneration[],
): MapInfo[] {
  const generations = [...hooks.flatMap((hook) => hook.generations), ...probes];
  const slots = hooks.flatMap((hook) => hook.generations.map(({ slot }) => slot?.mapId));
  const known = new Set([...slots, ...generations.flatMap(({ maps }) => maps.map(({ id }) => id))]);
  const unknown = new Map([...publicMaps].filter(([, id]) => !known.has(id)).map(([path, id]) => [id, path]));
  if (unknown.size === 0) return [];
  for (const id of usersOf(new Set(unknown.keys())).flatMap(({ mapIds }) => mapIds)) unknown.delete(id);
  return [...unknown.values()].flatMap((path) => {
    using map = tryOpenPin('map', path);
    return map === undefined ? [] : [{ ...mapInfo(map.number), name: mapTypes(map.number).name }];
  });
}

/** Each before the one that its slot names; where slots form a loop, in any order. */
function inSlotOrder(generations: readonly Generation[]): Generation[] {
  const byProgram = new Map(generations.map((generation) => [generation.programId, generation]));
  const seen = new Set<Generation>();
  const ordered: Generation[] = [];
  const visit = (generation: Generation | undefined): void => {
    if (generation === undefined || seen.has(generation)) return;
    seen.add(generation);
    const next = generation.slot?.next ?? null;
    if (next !== null) visit(byProgram.get(next));
    ordered.unshift(generation);
  };
  for (const generation of generations) visit(generation);
  return ordered;
}

/** A link whose interface is gone, was renamed or made anew, or that was detached, meets no packet of the hook. */
function readLink(path: string, ifindex: number | undefined): Attachment | undefined {
  using link = tryOpenPin('link', path);
  if (link === undefined) return undefined;
  const info = linkInfo(link.number);
  const kind = info.type === BPF_LINK_TYPE_XDP ? 'xdp' : info.type === BPF_LINK_TYPE_TCX ? 'tcx' : undefined;
  if (kind === undefined) return undefined;
  const attached = info.ifindex !== 0 && info.ifindex === ifindex;
  const mode = attached && kind === 'xdp' ? xdpModeOf(info.programId, info.ifindex) : undefined;
  const { id: linkId, programId } = info;
  return { kind, linkPin: path, linkId, programId, attached, ...(mode !== undefined && { mode }) };
}

/** As the kernel has them. A program is at a hook once only, so that its id tells its place. */
function sortByOrder({ hook, attachments }: Hooked, present: ReadonlyMap<string, number>): void {
  const ifindex = present.get(hook.iface);
  if (hook.direction === 'xdpingress' || ifindex === undefined || attachments.length < 2) return;
  const order = tcxPrograms(ifindex, hook.direction);
  attachments.sort((a, b) => order.indexOf(a.programId) - order.indexOf(b.programId));
}

/** Asked for only where links do not hold all: libbpf tells on stderr of every interface that has no qdisc to ask. */
function readFilter(
  { hook, attachments, generations }: Hooked,
  present: ReadonlyMap<string, number>,
): Attachment | undefined {
  const ifindex = present.get(hook.iface);
  if (hook.direction === 'xdpingress' || ifindex === undefined) return undefined;
  const held = programsOf(liveStrands({ hook, attachments, generations }));
  if (held.length > 0 && held.length === generations.length) return undefined;
  const programId = filteringProgram(ifindex, hook.direction);
  if (programId === undefined || !generations.some((generation) => generation.programId === programId))
    return undefined;
  return { kind: 'clsact', linkPin: '', linkId: 0, programId, attached: true };
}

function readPublicMaps(bpffs: string): ReadonlyMap<string, number> {
  const maps = new Map<string, number>();
  for (const path of publicPaths(bpffs)) {
    using pinned = tryOpenPin('map', path);
    if (pinned !== undefined) maps.set(path, mapInfo(pinned.number).id);
  }
  return maps;
}
