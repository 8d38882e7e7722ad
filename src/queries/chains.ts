import type { Lane, Turn } from '../apply/lane.js';
import type { Datapath, RunStats } from '../datapath/datapath.js';
import { cgroupsOf, type DesiredState, NOTHING_DESIRED, probesOf, programsAt } from '../domain/desired.js';
import { type Difference, differencesOf, versionOf } from '../domain/difference.js';
import { type ChainHook, type Hook, hookFields, hookKey, sameHook, TRACING, targetName } from '../domain/hook.js';
import {
  type Attachment,
  hookAt,
  isPresent,
  type LoadedProgram,
  type Observed,
  type ObservedProbe,
  observedProbes,
  type Subchain,
  standingSubchains,
} from '../domain/observed.js';
import { programPin, ROOT_NAMES } from '../domain/pins.js';
import { probeDifferencesOf } from '../domain/probe-difference.js';
import type { Program } from '../domain/program.js';
import type { ReplyOf } from '../messages/requests.js';
import type { PlanContext } from '../plan/context.js';
import type { WatchedCompanion } from '../reconcile/companion-watch.js';
import { foreignView } from './views.js';

/* The answer to `chains`: the chains in the kernel, and how they differ from the desired state. */

type HookView = ReplyOf<'chains'>['hooks'][number];
type ProbesView = NonNullable<ReplyOf<'chains'>['probes']>;
type SubchainView = HookView['strands'][number];
type RunsByPin = ReadonlyMap<string, RunStats>;

/** One observation of the kernel. */
interface ChainsObservation {
  readonly observed: Observed;
  /** Runs of the first program of each subchain, by pin. */
  readonly runs: RunsByPin;
  /** In milliseconds, of a monotonic clock. */
  readonly at: number;
}

export interface ChainSources {
  readonly hostName: string;
  readonly datapath: Datapath;
  readonly lane: Lane;
  readonly context: PlanContext;
  readonly desired: () => DesiredState | null;
  /** The companions that should run, as the last check has found them. */
  readonly companions: () => readonly WatchedCompanion[];
  /** Resolves after the given milliseconds. */
  readonly pause: (ms: number) => Promise<unknown>;
}

/**
 * Observes the chains. With `statsMs`, it observes them twice and makes the kernel count runs in between, while
 * commands continue.
 */
export async function readChains(
  sources: ChainSources,
  iface: string | undefined,
  statsMs: number | undefined,
): Promise<ReplyOf<'chains'>> {
  const { hostName, lane, datapath, context, desired, companions, pause } = sources;
  const look = () => lane.run((turn) => lookAt(turn, datapath, desired()));
  using _counting = statsMs === undefined ? undefined : await datapath.countRuns();
  const before = statsMs === undefined ? undefined : await look();
  if (statsMs !== undefined) await pause(statsMs);
  const now = await look();
  return {
    host: hostName,
    known: desired() !== null,
    ...(before !== undefined && { window_ms: now.at - before.at }),
    hooks: hooksOf(desired(), now.observed)
      .filter((hook) => iface === undefined || targetName(hook) === iface)
      .map((hook) => {
        const view = hookView(hook, desired(), now, before?.runs, context);
        return { ...view, differences: [...view.differences, ...companionDifferences(companions(), hook)] };
      }),
    ...(iface === undefined && probesPart(desired(), now, companions())),
  };
}

async function lookAt(turn: Turn, datapath: Datapath, desired: DesiredState | null): Promise<ChainsObservation> {
  turn.assertHeld();
  const observed = await datapath.observe(cgroupsOf(desired ?? NOTHING_DESIRED));
  const entries = observed.hooks.flatMap((at) => standingSubchains(at).flatMap(({ programs: [entry] }) => entry ?? []));
  const runs = await datapath.runStats(entries.map(({ dir }) => programPin(dir)));
  return { observed, runs, at: performance.now() };
}

/** The hooks with desired programs, then those where only other programs are attached. */
function hooksOf(desired: DesiredState | null, observed: Observed): ChainHook[] {
  const hooks = new Map<string, ChainHook>();
  const standing = observed.hooks.filter((at) => standingSubchains(at).length > 0);
  for (const { hook } of [...(desired?.chains ?? []), ...standing]) hooks.set(hookKey(hook), hook);
  return [...hooks.values()];
}

function hookView(
  hook: ChainHook,
  desired: DesiredState | null,
  { observed, runs }: ChainsObservation,
  earlier: RunsByPin | undefined,
  { chaining, roots }: PlanContext,
): HookView {
  const at = hookAt(observed, hook);
  const wanted = desired === null ? [] : programsAt(desired, hook);
  const present = isPresent(observed, hook);
  const root = chaining ? roots[hook.direction] : undefined;
  const differences = desired === null ? [] : differencesOf({ hook, wanted, observed: at, present, root });
  return {
    ...hookFields(hook),
    interface_present: present,
    strands: standingSubchains(at).map((subchain) => ({
      ...subchainView(subchain, wanted),
      ...runsOf(subchain, runs, earlier),
    })),
    desired: wanted.map(({ name, version, seqId, enabled }) => ({
      name,
      version,
      seq_id: seqId,
      admin_status: statusOf(enabled),
    })),
    differences: differences.map(differenceView),
    ...foreignView(at),
  };
}

/** Companions that should run at a hook and do not. */
function companionDifferences(companions: readonly WatchedCompanion[], hook: Hook): HookView['differences'] {
  return companions
    .filter(({ hook: where, condition }) => condition !== 'running' && sameHook(where, hook))
    .map(({ package: { name }, condition, restarts }) => {
      const what = condition === 'given-up' ? 'was given up' : 'is to be started again';
      const text = `The companion of ${name} ${what} after ${restarts} restarts`;
      return { kind: 'companion', programs: [name], text };
    });
}

function probesPart(
  desired: DesiredState | null,
  { observed }: ChainsObservation,
  companions: readonly WatchedCompanion[],
): { probes?: ProbesView } {
  const wanted = probesOf(desired);
  // An interrupted load can leave a directory without probes. It does not count.
  const standing = observedProbes(observed).filter(({ probes }) => probes.length > 0);
  if (wanted.length + standing.length === 0) return {};
  const differences = desired === null ? [] : probeDifferencesOf(wanted, standing);
  return {
    probes: {
      standing: standing.map((load) => ({
        name: load.name,
        version: versionOf(load, wanted),
        functions: load.probes.map(functionView),
      })),
      desired: wanted.map(({ name, version, enabled }) => ({ name, version, admin_status: statusOf(enabled) })),
      differences: [...differences.map(differenceView), ...companionDifferences(companions, TRACING)],
    },
  };
}

function functionView({ function: name, programId, linkId }: ObservedProbe): ProbesView['standing'][0]['functions'][0] {
  return {
    name,
    ...(programId !== undefined && { prog_id: programId }),
    ...(linkId !== undefined && { link_id: linkId }),
  };
}

function statusOf(enabled: boolean): 'enabled' | 'disabled' {
  return enabled ? 'enabled' : 'disabled';
}

function differenceView(difference: Difference): HookView['differences'][number] {
  return { ...difference, programs: [...difference.programs] };
}

function subchainView({ attachment, programs }: Subchain, wanted: readonly Program[]): SubchainView {
  return {
    ...(attachment !== undefined && { attachment: attachmentView(attachment) }),
    members: programs.map((program) => memberView(program, wanted)),
  };
}

function attachmentView({ kind, mode, linkId, attached }: Attachment): SubchainView['attachment'] & object {
  return { kind, ...(mode !== undefined && { mode }), link_id: linkId, attached };
}

function memberView(loaded: LoadedProgram, wanted: readonly Program[]): SubchainView['members'][number] {
  const { name, programId, slot, probes = [] } = loaded;
  return {
    name,
    version: versionOf(loaded, wanted),
    root: ROOT_NAMES.includes(name),
    prog_id: programId ?? 0,
    ...(slot !== undefined && { slot: { map_id: slot.mapId, next: slot.next } }),
    ...(probes.length > 0 && { probes: probes.map(functionView) }),
  };
}

/** A program that was loaded within the window started at zero. */
function runsOf(
  { programs: [entry] }: Subchain,
  runs: RunsByPin,
  earlier: RunsByPin | undefined,
): Pick<SubchainView, 'runs' | 'recent_runs'> {
  const pin = entry === undefined ? '' : programPin(entry.dir);
  const now = runs.get(pin);
  if (now === undefined) return {};
  const told = { runs: { count: now.count, time_ns: now.timeNs } };
  if (earlier === undefined) return told;
  const before = earlier.get(pin) ?? { count: 0, timeNs: 0 };
  return { ...told, recent_runs: { count: now.count - before.count, time_ns: now.timeNs - before.timeNs } };
}
