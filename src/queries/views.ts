import { type DesiredState, probesOf } from '../domain/desired.js';
import { foreignInWords } from '../domain/foreign.js';
import { attachPointOf, hookFields, TRACING, targetName } from '../domain/hook.js';
import {
  hookAt,
  type LoadedProbes,
  liveAttachment,
  type Observed,
  type ObservedHook,
  observedProbes,
  standingChain,
} from '../domain/observed.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { ReplyOf } from '../messages/requests.js';
import { isEmpty } from '../plan/plan.js';
import { isWhole } from '../plan/tracing/probes.js';
import type { WatchedCompanion } from '../reconcile/companion-watch.js';
import type { Rehearsal } from '../reconcile/host.js';
import { describeStep } from '../steps/describe.js';
import type { Step } from '../steps/step.js';

/* The replies to the read-only requests: pure views of the desired and the observed state. */

type HookStatus = ReplyOf<'status'>['hooks'][number];

/** Per hook, how many of the desired programs run. */
export function hooksView(desired: DesiredState | null, observed: Observed): ReplyOf<'status'>['hooks'] {
  return (desired?.chains ?? []).map(({ hook, programs }) => {
    const at = hookAt(observed, hook);
    const attachment = liveAttachment(at);
    const standing = new Set(attachment === undefined ? [] : standingChain(at).map((loaded) => loaded.digest));
    const enabled = programs.filter((program) => program.enabled);
    return {
      ...hookFields(hook),
      attached: attachment !== undefined,
      ...(attachment !== undefined && { kind: attachment.kind }),
      ...(attachment?.mode !== undefined && { mode: attachment.mode }),
      desired: enabled.length,
      running: enabled.filter((program) => standing.has(contentDigest(program))).length,
      ...foreignView(at),
    };
  });
}

/** What else is at a hook. */
export function foreignView({ foreign = [] }: Pick<ObservedHook, 'foreign'>): Pick<HookStatus, 'foreign'> {
  const views = foreign.map((one) => ({ prog_id: one.id, name: one.name, runs: one.runs, text: foreignInWords(one) }));
  return views.length === 0 ? {} : { foreign: views };
}

/** The companions that should run and do not. */
export function companionsStatus(watched: readonly WatchedCompanion[]): Pick<ReplyOf<'status'>, 'companions'> {
  const companions = watched.flatMap(({ hook, package: { name }, condition, restarts }) =>
    condition === 'running' ? [] : [{ ...hookFields(hook), name, condition, restarts }],
  );
  return companions.length === 0 ? {} : { companions };
}

/** How many of the desired probes are attached. */
export function probesStatus(desired: DesiredState | null, observed: Observed): Pick<ReplyOf<'status'>, 'probes'> {
  const enabled = probesOf(desired).filter((probe) => probe.enabled);
  if (enabled.length === 0) return {};
  const running = enabled.filter((probe) => runningProbe(probe, observed) !== undefined);
  return { probes: { desired: enabled.length, running: running.length } };
}

function runningProbe(probe: Program, observed: Observed): LoadedProbes | undefined {
  if (!probe.enabled) return undefined;
  const digest = contentDigest(probe);
  return observedProbes(observed).find((one) => one.name === probe.name && one.digest === digest && isWhole(one));
}

/** Every desired program, with its program id if it runs. */
export function programsView(
  desired: DesiredState | null,
  observed: Observed,
  iface?: string,
): ReplyOf<'programs'>['programs'] {
  const members = (desired?.chains ?? [])
    .filter(({ hook }) => iface === undefined || targetName(hook) === iface)
    .flatMap(({ hook, programs }) => {
      const at = hookAt(observed, hook);
      const attachment = liveAttachment(at);
      const standing = attachment === undefined ? [] : standingChain(at);
      return programs.map((program) => {
        const digest = contentDigest(program);
        const loaded = program.enabled ? standing.find((other) => other.digest === digest) : undefined;
        return {
          ...hookFields(hook),
          name: program.name,
          version: program.version,
          seq_id: program.seqId,
          admin_status: program.enabled ? ('enabled' as const) : ('disabled' as const),
          running: loaded !== undefined,
          ...(loaded !== undefined && attachment?.mode !== undefined && { mode: attachment.mode }),
          ...(loaded?.programId !== undefined && { prog_id: loaded.programId }),
          map_name: program.mapName,
        };
      });
    });
  const probes = iface === undefined ? probesOf(desired).map((probe) => probeView(probe, observed)) : [];
  return [...members, ...probes];
}

function probeView(probe: Program, observed: Observed): ReplyOf<'programs'>['programs'][number] {
  const running = runningProbe(probe, observed);
  const programId = running?.probes[0]?.programId;
  return {
    ...hookFields(TRACING),
    name: probe.name,
    version: probe.version,
    seq_id: probe.seqId,
    admin_status: probe.enabled ? 'enabled' : 'disabled',
    running: running !== undefined,
    ...(programId !== undefined && { prog_id: programId }),
    map_name: '',
  };
}

/** The desired state as the payload of a deploy that would change nothing. */
export function configView(desired: DesiredState | null, hostName: string): ReplyOf<'config'> {
  const probes = probesOf(desired).map(({ payload }) => payload);
  const named = (desired?.chains ?? []).map(({ hook }) => targetName(hook));
  // Probes must be in the entry of some interface. Every host has loopback.
  const ifaces = [...new Set(named.length === 0 && probes.length > 0 ? ['lo'] : named)];
  return ifaces.map((iface, index) => {
    const lists = (desired?.chains ?? [])
      .filter(({ hook }) => targetName(hook) === iface)
      .map(({ hook, programs }) => [attachPointOf(hook).payloadList, programs.map((program) => program.payload)]);
    const address = desired?.addresses[iface];
    return {
      host_name: hostName,
      iface,
      ...(address !== undefined && { ipv4_address: address }),
      bpf_programs: { ...Object.fromEntries(lists), ...(index === 0 && probes.length > 0 && { probes }) },
    };
  });
}

/** A plan in words and as data. */
export function planView(hostName: string, { planned: plan, notes }: Rehearsal): ReplyOf<'plan'> {
  const inWords = (steps: readonly Step[]) => steps.map((step) => ({ ...step, text: describeStep(step) }));
  return {
    host: hostName,
    changes: !isEmpty(plan),
    reasons: [...plan.reasons],
    ...(notes.length > 0 && { notes: [...notes] }),
    prepare: inWords(plan.prepare),
    commit: inWords([...plan.commit, ...plan.stop, ...plan.start]),
    cleanup: inWords(plan.cleanup),
    outcomes: plan.outcomes.map(({ hook, name, version, result, message }) => {
      return { ...hookFields(hook), name, version, result, ...(message !== undefined && { message }) };
    }),
  };
}
