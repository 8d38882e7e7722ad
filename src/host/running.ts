import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type Hook, NO_HOOK, type NoHook } from '../domain/hook.js';
import { hookAt, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import { isWhole } from '../plan/probes.js';
import type { Report } from '../reconcile.js';
import type { Metrics, ProgramLabels } from '../telemetry/metrics.js';

/* What runs, and what was done to it, as metrics tell it. */

/** The labels of a program's series; those of a probe are empty but for its name. */
export function labelsOf(program: string, hook: Hook | NoHook, desired: DesiredState): ProgramLabels {
  return { program, ...hook, address: desired.addresses[hook.iface] ?? '' };
}

/** What stands at a hook, or of the host's probes. */
function standsAt(hook: Hook | NoHook, observed: Observed): readonly { readonly name: string }[] {
  return hook.direction === '' ? observedProbes(observed) : standingChain(hookAt(observed, hook));
}

/** Everything that runs, with its version as it was asked for where that is known. */
export function runningPrograms(observed: Observed, desired: DesiredState): (ProgramLabels & { version: string })[] {
  const members = observed.hooks.flatMap((at) =>
    standingChain(at).map(({ name, versionSegment, hook }) => {
      const version = programsAt(desired, hook).find((program) => program.name === name)?.version ?? versionSegment;
      return { ...labelsOf(name, hook, desired), version };
    }),
  );
  const probes = observedProbes(observed)
    .filter(isWhole)
    .map(({ name, versionSegment }) => {
      const version = probesOf(desired).find((probe) => probe.name === name)?.version ?? versionSegment;
      return { ...labelsOf(name, NO_HOOK, desired), version };
    });
  return [...members, ...probes];
}

/** Counts what a command did to each program. */
export function countOutcomes({ outcomes, observed }: Report, desired: DesiredState, metrics: Metrics): void {
  for (const { hook, name, result } of outcomes) {
    const labels = labelsOf(name, hook, desired);
    if (result === 'started') metrics.programStarted(labels);
    if (result === 'stopped') metrics.programStopped(labels);
    if (result === 'updated' || result === 'moved') metrics.programUpdated(labels);
    // One that waits for its interface has not failed at anything.
    if (result !== 'failed' || !(hook.direction === '' || observed.interfaces.has(hook.iface))) continue;
    if (standsAt(hook, observed).some((generation) => generation.name === name)) metrics.updateFailed(labels);
    else metrics.deployFailed(labels);
  }
}
