import type { Turn } from '../apply/lane.js';
import { type DesiredState, desiredPlaces, probesOf } from '../domain/desired.js';
import { hookKey, TRACING } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Fault } from '../errors.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { RepairRequest } from './chain-repair.js';
import type { CompanionNews, CompanionWatch } from './companion-watch.js';
import type { ReconcileRequest, Report } from './reconcile.js';
import { labelsOf } from './running.js';

export interface CompanionRepairOptions {
  readonly watch: CompanionWatch;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** One pass over the host. */
  readonly pass: (request: ReconcileRequest) => Promise<Report>;
}

/**
 * Starts the companions that are due, after the chains have been repaired. Each is started on its own: if one cannot be
 * started, its chain and the other companions still run.
 */
export async function repairCompanions(
  turn: Turn,
  request: RepairRequest,
  observed: Observed,
  { watch, metrics, log, pass }: CompanionRepairOptions,
): Promise<{ readonly reports: readonly Report[]; readonly news: readonly CompanionNews[] }> {
  const { desired, except } = request;
  const chains = desired.chains.filter(({ hook }) => !except.has(hookKey(hook)));
  const probes = except.has(hookKey(TRACING)) ? [] : probesOf(desired);
  const wanted = { ...desired, chains, probes };
  const { due, resting, news } = await watch.look(turn, wanted, observed);
  const reports: Report[] = [];
  const failed = new Map<string, Fault>();
  const passedOver = new Set(resting);
  const hasAny = desiredPlaces(wanted).some(({ programs }) => programs.some(({ companion }) => companion));
  for (let again = hasAny; again; ) {
    const report = await pass({ ...request, exceptCompanions: passedOver, revivals: due });
    const culprit = newCulprit(report, passedOver);
    again = culprit !== undefined;
    if (culprit !== undefined) passedOver.add(culprit);
    // The watch decides when to try these again.
    if (culprit !== undefined && due.has(culprit)) failed.set(culprit, report.faults[0]!);
    else reports.push(report);
  }
  const restarted = await watch.noteStarts(turn, due, failed);
  tell({ restarted, news }, desired, { watch, metrics, log });
  return { reports, news: [...news, ...restarted] };
}

function newCulprit({ status, culprit }: Report, known: ReadonlySet<string>): string | undefined {
  return status === 'failed' && culprit !== undefined && !known.has(culprit) ? culprit : undefined;
}

function tell(
  { restarted, news }: { readonly restarted: readonly CompanionNews[]; readonly news: readonly CompanionNews[] },
  desired: DesiredState,
  { watch, metrics, log }: Pick<CompanionRepairOptions, 'watch' | 'metrics' | 'log'>,
): void {
  for (const { companion, data } of restarted) {
    metrics.companionRestarted(labelsOf(companion.package.name, companion.hook, desired));
    log.info(data, 'started a companion again');
  }
  for (const { data } of news) log.error(data, 'gave up a companion');
  metrics.setCompanions(
    watch.watched.map(({ hook, package: { name }, condition }) => ({ ...labelsOf(name, hook, desired), condition })),
  );
}
