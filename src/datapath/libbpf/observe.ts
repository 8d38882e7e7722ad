import { type Hook, hookKey } from '../../domain/hook.js';
import type { Attachment, Generation, Observed } from '../../domain/observed.js';
import { filteringProgram } from './clsact.js';
import { tryOpenPin } from './fd.js';
import { generationPlaces, linkPins, publicPaths, readGeneration } from './generations.js';
import { BPF_LINK_TYPE_TCX, BPF_LINK_TYPE_XDP, linkInfo, mapInfo } from './info.js';
import { interfaces } from './interfaces.js';

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
    const filter = readFilter(hooked, present);
    if (filter !== undefined) hooked.attachments.push(filter);
  }
  const ordered = [...hooks.values()].map((hooked) => ({ ...hooked, generations: inSlotOrder(hooked.generations) }));
  return { hooks: ordered, interfaces: present, publicMaps: readPublicMaps(bpffs) };
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
  using link = tryOpenPin(path);
  if (!link?.isA('link')) return undefined;
  const info = linkInfo(link.number);
  const kind = info.type === BPF_LINK_TYPE_XDP ? 'xdp' : info.type === BPF_LINK_TYPE_TCX ? 'tcx' : undefined;
  if (kind === undefined) return undefined;
  const attached = info.ifindex !== 0 && info.ifindex === ifindex;
  return { kind, linkPin: path, linkId: info.id, programId: info.programId, attached };
}

/** Asked for only where no link holds the chain: libbpf tells on stderr of every interface that has no qdisc to ask. */
function readFilter(
  { hook, attachments, generations }: Hooked,
  present: ReadonlyMap<string, number>,
): Attachment | undefined {
  const ifindex = present.get(hook.iface);
  if (hook.direction === 'xdpingress' || ifindex === undefined) return undefined;
  if (attachments.some(({ attached }) => attached)) return undefined;
  const programId = filteringProgram(ifindex, hook.direction);
  if (programId === undefined || !generations.some((generation) => generation.programId === programId))
    return undefined;
  return { kind: 'clsact', linkPin: '', linkId: 0, programId, attached: true };
}

function readPublicMaps(bpffs: string): ReadonlyMap<string, number> {
  const maps = new Map<string, number>();
  for (const path of publicPaths(bpffs)) {
    using pinned = tryOpenPin(path);
    if (pinned?.isA('map')) maps.set(path, mapInfo(pinned.number).id);
  }
  return maps;
}
