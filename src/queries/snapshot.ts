import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { companionKey, type ObservedCompanion } from '../domain/companion.js';
import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import {
  ATTACH_POINT_NAMES,
  type AttachPointName,
  type ChainHook,
  type Hook,
  hookKey,
  TRACING,
  targetName,
} from '../domain/hook.js';
import {
  type Attachment,
  hookAt,
  type LoadedProgram,
  type Observed,
  observedProbes,
  standingChain,
} from '../domain/observed.js';
import { publicMapPath, ROOT_NAMES } from '../domain/pins.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { L3AFALLHOSTDATA, L3AFMetaData } from '../messages/snapshot.js';
import type { PlanContext } from '../plan/context.js';
import type { WatchedCompanion } from '../reconcile/companion-watch.js';
import type { Stat } from '../telemetry/metrics.js';

export interface SnapshotInput {
  readonly hostName: string;
  readonly desired: DesiredState | null;
  readonly observed: Observed;
  readonly companions: readonly ObservedCompanion[];
  /** What is known about the companions that are watched. */
  readonly watched: readonly WatchedCompanion[];
  readonly context: PlanContext;
  readonly stats: readonly Stat[];
  /** The last values read from the monitored maps of a program. */
  readonly monitored: (hook: Hook, program: string) => L3AFMetaData['MetricsBpfMaps'];
}

/** One element of a chain: the desired program, the running one, and the map name of its own slot. */
interface Element {
  readonly hook: ChainHook;
  readonly program: Readonly<Record<string, unknown>>;
  readonly name: string;
  readonly version: string;
  readonly slotMap: string;
  readonly entryFunction: string;
  readonly mapArgs: readonly string[];
  readonly loaded: LoadedProgram | undefined;
}

type SnapshotList = (typeof ATTACH_POINTS)[AttachPointName]['snapshotList'];

/** The host's state in l3afd's terms: the root first in each list, ids from the kernel at this moment. */
export function snapshotOf(input: SnapshotInput): L3AFALLHOSTDATA {
  const { hostName, observed, stats } = input;
  const hooks = new Map<string, ChainHook>();
  for (const { hook } of [...(input.desired?.chains ?? []), ...observed.hooks]) {
    hooks.set(hookKey(hook), hook);
  }
  const chainsOf = (attachPoint: AttachPointName) =>
    Object.fromEntries(
      [...hooks.values()]
        .filter((hook) => hook.direction === attachPoint)
        .map((hook) => [targetName(hook), chainOf(hook, input)] as const)
        .filter(([, chain]) => chain.length > 0),
    );
  const chainLists = Object.fromEntries(
    ATTACH_POINT_NAMES.map((attachPoint) => [ATTACH_POINTS[attachPoint].snapshotList, chainsOf(attachPoint)]),
  ) as Record<SnapshotList, ReturnType<typeof chainsOf>>;
  return {
    HostName: hostName,
    HostInterfaces: Object.fromEntries([...observed.interfaces.keys()].map((iface) => [iface, true])),
    ...chainLists,
    ProbesBpfs: probesOf(input.desired).map((probe) => probeDataOf(probe, input)),
    Ifaces: Object.fromEntries(
      [...hooks.values()].flatMap((hook) => ('iface' in hook ? [[hook.iface, hook.iface]] : [])),
    ),
    AllStats: stats.map((stat) => ({ ...stat, Labels: [...stat.Labels] })),
  };
}

function chainOf(hook: ChainHook, input: SnapshotInput): L3AFMetaData[] {
  const { desired, observed, context, monitored } = input;
  const at = hookAt(observed, hook);
  const standing = standingChain(at);
  const held = at.attachments.filter(({ attached }) => attached);
  const elements = [...rootOf(hook, standing, context), ...membersOf(hook, standing, desired)];
  let previous: Element | undefined;
  return elements.map((element) => {
    const { loaded, name } = element;
    const MetricsBpfMaps = monitored(hook, name);
    const data = {
      ...metaDataOf(element, previous, held, context),
      ...companionDataOf(hook, name, input),
      MetricsBpfMaps,
    };
    if (loaded !== undefined) previous = element;
    return data;
  });
}

/** As of the last check. A companion that was started since then is shown as observed now. */
function companionDataOf(
  hook: Hook,
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

function rootOf(hook: ChainHook, standing: readonly LoadedProgram[], { roots }: PlanContext): Element[] {
  const [head] = standing;
  if (head === undefined || !ROOT_NAMES.includes(head.name)) return [];
  // A root that was configured earlier stays while its successor cannot be fetched. Only its pins describe it.
  const former = { version: head.versionSegment, entryFunction: '', slotMap: '' };
  const configured = roots[hook.direction];
  const { version, entryFunction, slotMap } = configured.digest === head.digest ? configured : former;
  const { name } = head;
  const program = { name, version, seq_id: 0, map_name: slotMap, entry_function_name: entryFunction };
  return [{ hook, program, name, version, slotMap, entryFunction, mapArgs: [], loaded: head }];
}

function membersOf(hook: ChainHook, standing: readonly LoadedProgram[], desired: DesiredState | null): Element[] {
  const programs = desired === null ? [] : programsAt(desired, hook);
  return programs.map((program: Program): Element => {
    const { name, version, payload, entryFunction, mapName: slotMap } = program;
    const digest = contentDigest(program);
    const loaded = program.enabled ? standing.find((other) => other.digest === digest) : undefined;
    const mapArgs = program.mapArgs.map((args) => args.name);
    return { hook, program: payload, name, version, slotMap, entryFunction, mapArgs, loaded };
  });
}

function metaDataOf(
  element: Element,
  previous: Element | undefined,
  attachments: readonly Attachment[],
  { bpffs }: PlanContext,
): Omit<L3AFMetaData, 'RestartCount' | 'CompanionState' | 'MetricsBpfMaps'> {
  const { loaded, program, mapArgs, entryFunction } = element;
  const [mode] = attachments.flatMap((attachment) => attachment.mode ?? []);
  const maps = (loaded?.maps ?? []).map((map) => map.name);
  return {
    Program: { ...program },
    FilePath: loaded?.dir ?? '',
    PrevMapNamePath: previous === undefined ? '' : slotPathOf(previous, bpffs),
    MapNamePath: loaded === undefined ? '' : slotPathOf(element, bpffs),
    ProgID: loaded?.programId ?? 0,
    BpfMaps: maps.filter((map) => mapArgs.includes(map)),
    // A program that its companion has loaded is not desired by name.
    ProgMapCollection: {
      Programs: loaded === undefined || entryFunction === '' ? [] : [entryFunction],
      Maps: maps,
    },
    ProgMapID: loaded?.slot?.mapId ?? 0,
    PrevProgMapID: previous?.loaded?.slot?.mapId ?? 0,
    Link: attachments.some(({ programId }) => programId === loaded?.programId),
    ...(loaded !== undefined && mode !== undefined && { XdpMode: mode }),
  };
}

function slotPathOf({ hook, name, version, slotMap }: Element, bpffs: string): string {
  return slotMap === '' ? '' : publicMapPath(bpffs, { hook, name, version }, slotMap);
}

/** A probe has no position in a chain. The first of its programs represents all. */
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
    ...companionDataOf(TRACING, probe.name, input),
    PrevMapNamePath: '',
    MapNamePath: '',
    ProgID: running?.probes[0]?.programId ?? 0,
    BpfMaps: maps.filter((map) => mapArgs.includes(map)),
    MetricsBpfMaps: monitored(TRACING, probe.name),
    ProgMapCollection: { Programs: (running?.probes ?? []).map((one) => one.function), Maps: maps },
    ProgMapID: 0,
    PrevProgMapID: 0,
    Link: running?.probes.some(({ linkId }) => linkId !== undefined) === true,
  };
}
