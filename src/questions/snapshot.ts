import { companionKey, type ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type Direction, type Hook, NO_HOOK, type NoHook } from '../domain/hook.js';
import {
  type Attachment,
  type Generation,
  hookAt,
  type Observed,
  observedProbes,
  standingChain,
} from '../domain/observed.js';
import { publicMapPath, ROOT_NAMES } from '../domain/pins.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { WatchedCompanion } from '../host/companion-watch.js';
import type { L3AFALLHOSTDATA, L3AFMetaData } from '../messages/snapshot.js';
import type { PlanContext } from '../plan/context.js';
import type { Stat } from '../telemetry/metrics.js';

export interface SnapshotInput {
  readonly hostName: string;
  readonly desired: DesiredState | null;
  readonly observed: Observed;
  readonly companions: readonly ObservedCompanion[];
  /** What is known of those that are watched over. */
  readonly watched: readonly WatchedCompanion[];
  readonly context: PlanContext;
  readonly stats: readonly Stat[];
  /** What was read last of the monitored maps of a program. */
  readonly monitored: (hook: Hook | NoHook, program: string) => L3AFMetaData['MetricsBpfMaps'];
}

/** One element of a chain: what was asked for, what runs of it, and its own slot's map name. */
interface Element {
  readonly hook: Hook;
  readonly program: Readonly<Record<string, unknown>>;
  readonly name: string;
  readonly version: string;
  readonly slotMap: string;
  readonly entryFunction: string;
  readonly mapArgs: readonly string[];
  readonly generation: Generation | undefined;
}

/** The host's state in l3afd's words: the root first in each list, ids as the kernel gives them at this moment. */
export function snapshotOf(input: SnapshotInput): L3AFALLHOSTDATA {
  const { hostName, observed, stats } = input;
  const hooks = new Map<string, Hook>();
  for (const { hook } of [...(input.desired?.chains ?? []), ...observed.hooks]) {
    hooks.set(`${hook.iface}/${hook.direction}`, hook);
  }
  const chainsOf = (direction: Direction) =>
    Object.fromEntries(
      [...hooks.values()]
        .filter((hook) => hook.direction === direction)
        .map((hook) => [hook.iface, chainOf(hook, input)] as const)
        .filter(([, chain]) => chain.length > 0),
    );
  return {
    HostName: hostName,
    HostInterfaces: Object.fromEntries([...observed.interfaces.keys()].map((iface) => [iface, true])),
    IngressXDPBpfs: chainsOf('xdpingress'),
    IngressTCBpfs: chainsOf('ingress'),
    EgressTCBpfs: chainsOf('egress'),
    ProbesBpfs: probesOf(input.desired).map((probe) => probeDataOf(probe, input)),
    Ifaces: Object.fromEntries([...hooks.values()].map(({ iface }) => [iface, iface])),
    AllStats: stats.map((stat) => ({ ...stat, Labels: [...stat.Labels] })),
  };
}

function chainOf(hook: Hook, input: SnapshotInput): L3AFMetaData[] {
  const { desired, observed, context, monitored } = input;
  const at = hookAt(observed, hook);
  const standing = standingChain(at);
  const held = at.attachments.filter(({ attached }) => attached);
  const elements = [...rootOf(hook, standing, context), ...membersOf(hook, standing, desired)];
  let previous: Element | undefined;
  return elements.map((element) => {
    const { generation, name } = element;
    const MetricsBpfMaps = monitored(hook, name);
    const data = {
      ...metaDataOf(element, previous, held, context),
      ...companionDataOf(hook, name, input),
      MetricsBpfMaps,
    };
    if (generation !== undefined) previous = element;
    return data;
  });
}

/** As of the last look at it; of one that was started since, as it is found. */
function companionDataOf(
  hook: Hook | NoHook,
  name: string,
  { companions, watched }: SnapshotInput,
): Pick<L3AFMetaData, 'RestartCount' | 'CompanionState'> {
  const key = companionKey({ hook, package: { name } });
  const found = companions.find(({ launch }) => companionKey(launch) === key);
  const known = watched.find((companion) => companionKey(companion) === key);
  const state = known !== undefined && known.condition !== 'running' ? known.condition : found?.state;
  return {
    RestartCount: known?.restarts ?? found?.restarts ?? 0,
    ...(state !== undefined && { CompanionState: state }),
  };
}

function rootOf(hook: Hook, standing: readonly Generation[], { roots }: PlanContext): Element[] {
  const [head] = standing;
  if (head === undefined || !ROOT_NAMES.includes(head.name)) return [];
  // One that was configured before stays where its successor cannot be had; no more is known of it than its pins tell.
  const former = { version: head.versionSegment, entryFunction: '', slotMap: '' };
  const configured = roots[hook.direction];
  const { version, entryFunction, slotMap } = configured.digest === head.digest ? configured : former;
  const { name } = head;
  const program = { name, version, seq_id: 0, map_name: slotMap, entry_function_name: entryFunction };
  return [{ hook, program, name, version, slotMap, entryFunction, mapArgs: [], generation: head }];
}

function membersOf(hook: Hook, standing: readonly Generation[], desired: DesiredState | null): Element[] {
  const programs = desired === null ? [] : programsAt(desired, hook);
  return programs.map((program: Program): Element => {
    const { name, version, payload, entryFunction, mapName: slotMap } = program;
    const digest = contentDigest(program);
    const generation = program.enabled ? standing.find((other) => other.digest === digest) : undefined;
    const mapArgs = program.mapArgs.map((args) => args.name);
    return { hook, program: payload, name, version, slotMap, entryFunction, mapArgs, generation };
  });
}

function metaDataOf(
  element: Element,
  previous: Element | undefined,
  attachments: readonly Attachment[],
  { bpffs }: PlanContext,
): Omit<L3AFMetaData, 'RestartCount' | 'CompanionState' | 'MetricsBpfMaps'> {
  const { generation, program, mapArgs, entryFunction } = element;
  const [mode] = attachments.flatMap((attachment) => attachment.mode ?? []);
  const maps = (generation?.maps ?? []).map((map) => map.name);
  return {
    Program: { ...program },
    FilePath: generation?.dir ?? '',
    PrevMapNamePath: previous === undefined ? '' : slotPathOf(previous, bpffs),
    MapNamePath: generation === undefined ? '' : slotPathOf(element, bpffs),
    ProgID: generation?.programId ?? 0,
    BpfMaps: maps.filter((map) => mapArgs.includes(map)),
    // One that its companion has loaded is not asked for by name.
    ProgMapCollection: {
      Programs: generation === undefined || entryFunction === '' ? [] : [entryFunction],
      Maps: maps,
    },
    ProgMapID: generation?.slot?.mapId ?? 0,
    PrevProgMapID: previous?.generation?.slot?.mapId ?? 0,
    Link: attachments.some(({ programId }) => programId === generation?.programId),
    ...(generation !== undefined && mode !== undefined && { XdpMode: mode }),
  };
}

function slotPathOf({ hook, name, version, slotMap }: Element, bpffs: string): string {
  return slotMap === '' ? '' : publicMapPath(bpffs, { hook, name, version }, slotMap);
}

/** A probe has no place in a chain; the first of its programs stands for all. */
function probeDataOf(probe: Program, input: SnapshotInput): L3AFMetaData {
  const { observed, monitored } = input;
  const digest = contentDigest(probe);
  const found = observedProbes(observed).find((one) => one.name === probe.name && one.digest === digest);
  const running = probe.enabled ? found : undefined;
  const maps = (running?.maps ?? []).map(({ name }) => name);
  const mapArgs = probe.mapArgs.map(({ name }) => name);
  return {
    Program: { ...probe.payload },
    FilePath: running?.dir ?? '',
    ...companionDataOf(NO_HOOK, probe.name, input),
    PrevMapNamePath: '',
    MapNamePath: '',
    ProgID: running?.probes[0]?.programId ?? 0,
    BpfMaps: maps.filter((map) => mapArgs.includes(map)),
    MetricsBpfMaps: monitored(NO_HOOK, probe.name),
    ProgMapCollection: { Programs: (running?.probes ?? []).map((one) => one.function), Maps: maps },
    ProgMapID: 0,
    PrevProgMapID: 0,
    Link: running?.probes.some(({ linkId }) => linkId !== undefined) === true,
  };
}
