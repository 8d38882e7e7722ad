import { hookKey, TRACING } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { ReconcileRequest, Report } from './reconcile.js';

/** The request of a repair, with the hooks that it leaves alone. */
export type RepairRequest = ReconcileRequest & { readonly except: ReadonlySet<string> };

export interface ChainRepair {
  readonly reports: readonly Report[];
  /** The hooks that the repair left alone or could not repair. */
  readonly leftAlone: ReadonlySet<string>;
  readonly observed: Observed;
}

/** Repairs all hooks in one pass. If that fails, repairs each hook in a pass of its own. */
export async function repairChains(
  request: RepairRequest,
  pass: (request: ReconcileRequest) => Promise<Report>,
): Promise<ChainRepair> {
  const { desired, except } = request;
  const whole = await pass({ ...request, chainsOnly: true });
  if (whole.status !== 'failed') return { reports: [whole], leftAlone: except, observed: whole.observed };
  const hooks = [...desired.chains, ...whole.observed.hooks, { hook: TRACING }].map(({ hook }) => hookKey(hook));
  const reports: Report[] = [];
  const leftAlone = new Set(except);
  for (const only of new Set(hooks.filter((hook) => !except.has(hook)))) {
    const others = new Set(hooks.filter((hook) => hook !== only));
    const report = await pass({ ...request, except: others, chainsOnly: true });
    reports.push(report);
    if (report.status === 'failed') leftAlone.add(only);
  }
  return { reports, leftAlone, observed: reports.at(-1)?.observed ?? whole.observed };
}
