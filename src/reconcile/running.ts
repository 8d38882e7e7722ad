import { type DesiredState, probesOf, programsAt } from '../domain/desired.js';
import { type Hook, hookFields, isTracing, TRACING, targetName } from '../domain/hook.js';
import { hookAt, isPresent, type Observed, observedProbes, standingChain } from '../domain/observed.js';
import { isWhole } from '../plan/tracing/probes.js';
import type { Metrics, ProgramLabels } from '../telemetry/metrics.js';
import type { Report } from './reconcile.js';

/*
 * Running programs and the changes to them, in the form of metrics.
 */

/** The labels of a program's series. For a probe, all except its name are empty. */
export function labelsOf(program: string, hook: Hook, desired: DesiredState): ProgramLabels {
  return { program, ...hookFields(hook), address: desired.addresses[targetName(hook)] ?? '' };
}

/** What runs at a hook, or the probes of the host. */
function standsAt(hook: Hook, observed: Observed): readonly { readonly name: string }[] {
  return isTracing(hook) ? observedProbes(observed) : standingChain(hookAt(observed, hook));
}

/** Everything that runs, with the requested version where it is known. */
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
      return { ...labelsOf(name, TRACING, desired), version };
    });
  return [...members, ...probes];
}

/** Counts what a command did to each program. */
export function countOutcomes({ outcomes, observed }: Report, desired: DesiredState, metrics: Metrics): void {
  for (const { hook, name, result, wasDisabled } of outcomes) {
    const labels = labelsOf(name, hook, desired);
    if (result === 'started') metrics.programStarted(labels);
    if (result === 'stopped' && wasDisabled === undefined) metrics.programStopped(labels);
    if (result === 'updated' || result === 'moved') metrics.programUpdated(labels);
    // A program that waits for its interface has not failed.
    if (result !== 'failed' || !isPresent(observed, hook)) continue;
    if (standsAt(hook, observed).some((loaded) => loaded.name === name)) metrics.updateFailed(labels);
    else metrics.deployFailed(labels);
  }
}
