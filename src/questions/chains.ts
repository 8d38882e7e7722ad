import type { Lane } from '../apply/lane.js';
import type { Datapath, RunStats } from '../datapath/datapath.js';
import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type Difference, differencesOf, versionOf } from '../domain/difference.js';
import { type Hook, hookKey } from '../domain/hook.js';
import {
  type Attachment,
  type Generation,
  hookAt,
  type Observed,
  type ObservedProbe,
  observedProbes,
  type Strand,
  standingStrands,
} from '../domain/observed.js';
import { programPin, ROOT_NAMES } from '../domain/pins.js';
import { probeDifferencesOf } from '../domain/probe-difference.js';
import type { Program } from '../domain/program.js';
import type { ReplyOf } from '../messages/requests.js';
import type { PlanContext } from '../plan/context.js';

/* The answer to `chains`: what the kernel has, and how it differs from what is desired. */

type HookView = ReplyOf<'chains'>['hooks'][number];
type ProbesView = NonNullable<ReplyOf<'chains'>['probes']>;
type StrandView = HookView['strands'][number];
type Runs = ReadonlyMap<string, RunStats>;

/** One look at the kernel. */
interface Look {
  readonly observed: Observed;
  /** Of the first program of each strand, by pin. */
  readonly runs: Runs;
  /** In milliseconds, of a clock that only goes forward. */
  readonly at: number;
}

export interface ChainSources {
  readonly hostName: string;
  readonly datapath: Datapath;
  readonly lane: Lane;
  readonly context: PlanContext;
  readonly desired: () => DesiredState | null;
  /** Resolves after so many milliseconds. */
  readonly pause: (ms: number) => Promise<unknown>;
}

/** Looks at the chains; with `statsMs` twice, and has the kernel count in between, while commands go on. */
export async function readChains(
  sources: ChainSources,
  iface: string | undefined,
  statsMs: number | undefined,
): Promise<ReplyOf<'chains'>> {
  const { hostName, lane, datapath, context, desired, pause } = sources;
  const look = () => lane.run(() => lookAt(datapath));
  using _counting = statsMs === undefined ? undefined : await datapath.countRuns();
  const before = statsMs === undefined ? undefined : await look();
  if (statsMs !== undefined) await pause(statsMs);
  const now = await look();
  return {
    host: hostName,
    known: desired() !== null,
    ...(before !== undefined && { window_ms: now.at - before.at }),
    hooks: hooksOf(desired(), now.observed)
      .filter((hook) => iface === undefined || hook.iface === iface)
      .map((hook) => hookView(hook, desired(), now, before?.runs, context)),
    ...(iface === undefined && probesPart(desired(), now)),
  };
}

async function lookAt(datapath: Datapath): Promise<Look> {
  const observed = await datapath.observe();
  const entries = observed.hooks.flatMap((at) => standingStrands(at).flatMap(({ programs: [entry] }) => entry ?? []));
  const runs = await datapath.runStats(entries.map(({ dir }) => programPin(dir)));
  return { observed, runs, at: performance.now() };
}

/** Where something is desired, and then where something stands that is not. */
function hooksOf(desired: DesiredState | null, observed: Observed): Hook[] {
  const hooks = new Map<string, Hook>();
  const standing = observed.hooks.filter((at) => standingStrands(at).length > 0);
  for (const { hook } of [...(desired?.chains ?? []), ...standing]) hooks.set(hookKey(hook), hook);
  return [...hooks.values()];
}

function hookView(
  hook: Hook,
  desired: DesiredState | null,
  { observed, runs }: Look,
  earlier: Runs | undefined,
  { chaining, roots }: PlanContext,
): HookView {
  const at = hookAt(observed, hook);
  const wanted = desired === null ? [] : programsAt(desired, hook);
  const present = observed.interfaces.has(hook.iface);
  const root = chaining ? roots[hook.direction] : undefined;
  const differences = desired === null ? [] : differencesOf({ hook, wanted, observed: at, present, root });
  return {
    ...hook,
    interface_present: present,
    strands: standingStrands(at).map((strand) => ({ ...strandView(strand, wanted), ...runsOf(strand, runs, earlier) })),
    desired: wanted.map(({ name, version, seqId, enabled }) => ({
      name,
      version,
      seq_id: seqId,
      admin_status: statusOf(enabled),
    })),
    differences: differences.map(differenceView),
  };
}

function probesPart(desired: DesiredState | null, { observed }: Look): { probes?: ProbesView } {
  const wanted = probesOf(desired);
  // What a load has left that was cut short is nothing yet.
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
      differences: differences.map(differenceView),
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

function strandView({ attachment, programs }: Strand, wanted: readonly Program[]): StrandView {
  return {
    ...(attachment !== undefined && { attachment: attachmentView(attachment) }),
    members: programs.map((program) => memberView(program, wanted)),
  };
}

function attachmentView({ kind, mode, linkId, attached }: Attachment): StrandView['attachment'] & object {
  return { kind, ...(mode !== undefined && { mode }), link_id: linkId, attached };
}

function memberView(generation: Generation, wanted: readonly Program[]): StrandView['members'][number] {
  const { name, programId, slot, probes = [] } = generation;
  return {
    name,
    version: versionOf(generation, wanted),
    root: ROOT_NAMES.includes(name),
    prog_id: programId ?? 0,
    ...(slot !== undefined && { slot: { map_id: slot.mapId, next: slot.next } }),
    ...(probes.length > 0 && { probes: probes.map(functionView) }),
  };
}

/** A program that was loaded within the window has begun at zero. */
function runsOf(
  { programs: [entry] }: Strand,
  runs: Runs,
  earlier: Runs | undefined,
): Pick<StrandView, 'runs' | 'recent_runs'> {
  const pin = entry === undefined ? '' : programPin(entry.dir);
  const now = runs.get(pin);
  if (now === undefined) return {};
  const told = { runs: { count: now.count, time_ns: now.timeNs } };
  if (earlier === undefined) return told;
  const before = earlier.get(pin) ?? { count: 0, timeNs: 0 };
  return { ...told, recent_runs: { count: now.count - before.count, time_ns: now.timeNs - before.timeNs } };
}
