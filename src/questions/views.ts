import { type DesiredState, probesOf } from '../domain/desired.js';
import { NO_HOOK, PAYLOAD_LIST } from '../domain/hook.js';
import {
  hookAt,
  liveAttachment,
  type Observed,
  observedProbes,
  type ProbeGeneration,
  standingChain,
} from '../domain/observed.js';
import type { Plan } from '../domain/plan.js';
import { contentDigest, type Program } from '../domain/program.js';
import type { Step } from '../domain/step.js';
import type { ReplyOf } from '../messages/requests.js';
import { describeStep } from '../plan/describe.js';
import { isEmpty } from '../plan/plan.js';
import { isWhole } from '../plan/probes.js';

/* The replies to the read-only requests: pure views of what is desired and what is observed. */

/** Per hook, how much of what is asked for runs. */
export function hooksView(desired: DesiredState | null, observed: Observed): ReplyOf<'status'>['hooks'] {
  return (desired?.chains ?? []).map(({ hook, programs }) => {
    const at = hookAt(observed, hook);
    const attachment = liveAttachment(at);
    const standing = new Set(attachment === undefined ? [] : standingChain(at).map((generation) => generation.digest));
    const enabled = programs.filter((program) => program.enabled);
    return {
      ...hook,
      attached: attachment !== undefined,
      ...(attachment !== undefined && { kind: attachment.kind }),
      ...(attachment?.mode !== undefined && { mode: attachment.mode }),
      desired: enabled.length,
      running: enabled.filter((program) => standing.has(contentDigest(program))).length,
    };
  });
}

/** How many of the probes that are asked for are attached. */
export function probesStatus(desired: DesiredState | null, observed: Observed): Pick<ReplyOf<'status'>, 'probes'> {
  const enabled = probesOf(desired).filter((probe) => probe.enabled);
  if (enabled.length === 0) return {};
  const running = enabled.filter((probe) => runningProbe(probe, observed) !== undefined);
  return { probes: { desired: enabled.length, running: running.length } };
}

function runningProbe(probe: Program, observed: Observed): ProbeGeneration | undefined {
  if (!probe.enabled) return undefined;
  const digest = contentDigest(probe);
  return observedProbes(observed).find((one) => one.name === probe.name && one.digest === digest && isWhole(one));
}

/** Every desired program, with its program id where it runs. */
export function programsView(
  desired: DesiredState | null,
  observed: Observed,
  iface?: string,
): ReplyOf<'programs'>['programs'] {
  const members = (desired?.chains ?? [])
    .filter(({ hook }) => iface === undefined || hook.iface === iface)
    .flatMap(({ hook, programs }) => {
      const at = hookAt(observed, hook);
      const attachment = liveAttachment(at);
      const standing = attachment === undefined ? [] : standingChain(at);
      return programs.map((program) => {
        const digest = contentDigest(program);
        const generation = program.enabled ? standing.find((other) => other.digest === digest) : undefined;
        return {
          ...hook,
          name: program.name,
          version: program.version,
          seq_id: program.seqId,
          admin_status: program.enabled ? ('enabled' as const) : ('disabled' as const),
          running: generation !== undefined,
          ...(generation !== undefined && attachment?.mode !== undefined && { mode: attachment.mode }),
          ...(generation?.programId !== undefined && { prog_id: generation.programId }),
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
    ...NO_HOOK,
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
  const named = (desired?.chains ?? []).map(({ hook }) => hook.iface);
  // Probes stand in the entry of an interface, whichever: loopback is one that every host has.
  const ifaces = [...new Set(named.length === 0 && probes.length > 0 ? ['lo'] : named)];
  return ifaces.map((iface, index) => {
    const lists = (desired?.chains ?? [])
      .filter(({ hook }) => hook.iface === iface)
      .map(({ hook, programs }) => [PAYLOAD_LIST[hook.direction], programs.map((program) => program.payload)]);
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
export function planView(hostName: string, plan: Plan): ReplyOf<'plan'> {
  const inWords = (steps: readonly Step[]) => steps.map((step) => ({ ...step, text: describeStep(step) }));
  return {
    host: hostName,
    changes: !isEmpty(plan),
    reasons: [...plan.reasons],
    prepare: inWords(plan.prepare),
    commit: inWords([...plan.commit, ...plan.stop, ...plan.start]),
    cleanup: inWords(plan.cleanup),
    outcomes: plan.outcomes.map(({ hook, name, version, result }) => ({ ...hook, name, version, result })),
  };
}
