import { setTimeout as sleep } from 'node:timers/promises';
import type { Lane } from '../apply/lane.js';
import type { Datapath } from '../datapath/datapath.js';
import type { DesiredState } from '../domain/desired.js';
import { hookKey, NO_HOOK } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Host } from '../host/host.js';
import type { Acknowledgement } from '../messages/ack.js';
import { parseCommand } from '../messages/parse.js';
import { parseRequest, REQUEST_VERBS, type ReplyOf, type RequestOf, type RequestVerb } from '../messages/requests.js';
import type { PlanContext } from '../plan/context.js';
import type { Journal } from '../store/journal.js';
import { readChains } from './chains.js';
import { configView, hooksView, planView, probesStatus, programsView } from './views.js';

export interface RequestSources {
  readonly hostName: string;
  readonly version: string;
  readonly startedAt: Date;
  readonly datapath: Datapath;
  readonly context: PlanContext;
  readonly journal: Journal;
  readonly lane: Lane;
  readonly host: Host;
  readonly ready: () => boolean;
  readonly connected: () => boolean;
  readonly lastAnswer: () => Acknowledgement | undefined;
  readonly snapshot: () => Promise<ReplyOf<'state'>>;
}

type Handlers = { readonly [V in RequestVerb]: (request: RequestOf<V>) => Promise<ReplyOf<V>> };

/** How long a look waits for the command in hand, in milliseconds. */
const PATIENCE_MS = 1_000;

/**
 * What the agent answers to the read-only requests. A look at the host is had between two commands, or beside one that takes long: then it
 * tells what the kernel says in the middle of that.
 */
export function requestHandlers(sources: RequestSources): Record<RequestVerb, (request: unknown) => Promise<unknown>> {
  const { hostName, version, startedAt, datapath, journal, lane, host, ready, connected, lastAnswer, snapshot } =
    sources;
  const look = () => atOnce(lane, () => host.observe());
  const handlers: Handlers = {
    async status() {
      const observed = await look();
      const last = lastAnswer();
      return {
        host: hostName,
        version,
        instance_id: journal.instanceId,
        started_at: startedAt.toISOString(),
        ready: ready(),
        datapath: datapath.kind,
        queued: lane.depth,
        ...(journal.generation !== undefined && { gen: journal.generation }),
        ...(last !== undefined && { last_command: commandView(last) }),
        hooks: hooksView(journal.desired, observed),
        ...probesStatus(journal.desired, observed),
      };
    },
    async programs({ iface }) {
      return { host: hostName, programs: programsView(journal.desired, await look(), iface) };
    },
    chains({ iface, stats_ms: statsMs }) {
      return readChains({ ...sources, desired: () => journal.desired, pause: sleep }, iface, statsMs);
    },
    state: snapshot,
    async config() {
      return configView(journal.desired, hostName);
    },
    async health() {
      const checks = healthChecks(journal.desired, await look(), ready(), connected());
      return { host: hostName, healthy: checks.every(({ ok }) => ok), checks };
    },
    async plan({ verb, payload }) {
      const command = parseCommand(verb, Buffer.from(JSON.stringify(payload ?? null)), hostName);
      return lane.run(async () => planView(hostName, await host.rehearse(journal.desired, command)));
    },
  };
  return Object.fromEntries(
    REQUEST_VERBS.map((verb) => {
      const handler = handlers[verb] as (request: unknown) => Promise<unknown>;
      return [verb, async (request: unknown) => handler(parseRequest(verb, request))];
    }),
  ) as Record<RequestVerb, (request: unknown) => Promise<unknown>>;
}

/** Does what only looks in its turn, or after a while beside whatever is in hand. */
async function atOnce<T>(lane: Lane, look: () => Promise<T>): Promise<T> {
  const timer = new AbortController();
  const turn = lane.run(look);
  // Whatever becomes of the turn when the other has answered.
  turn.catch(() => undefined);
  const beside = sleep(PATIENCE_MS, undefined, { signal: timer.signal }).then(look);
  beside.catch(() => undefined);
  try {
    return await Promise.race([turn, beside]);
  } finally {
    timer.abort();
  }
}

/** Whether everything desired runs, and what is wrong where it does not. */
export function healthChecks(
  desired: DesiredState | null,
  observed: Observed,
  ready: boolean,
  connected: boolean,
): ReplyOf<'health'>['checks'] {
  const hooks = hooksView(desired, observed).map(({ iface, direction, attached, desired: wanted, running }) => {
    const ok = wanted === running && (attached || wanted === 0);
    const name = `${iface}/${direction}`;
    return ok ? { name, ok } : { name, ok, message: `${running} of ${wanted} programs run` };
  });
  const { probes } = probesStatus(desired, observed);
  return [
    ready ? { name: 'ready', ok: true } : { name: 'ready', ok: false, message: 'The agent is still starting' },
    connected ? { name: 'broker', ok: true } : { name: 'broker', ok: false, message: 'There is no connection to NATS' },
    ...hooks,
    ...(probes === undefined ? [] : [probeCheck(probes)]),
  ];
}

function probeCheck({ desired, running }: { desired: number; running: number }): ReplyOf<'health'>['checks'][number] {
  const name = hookKey(NO_HOOK);
  return desired === running ? { name, ok: true } : { name, ok: false, message: `${running} of ${desired} run` };
}

function commandView({
  id,
  verb,
  seq,
  status,
  finished_at,
}: Acknowledgement): ReplyOf<'status'>['last_command'] & object {
  return { id, verb, seq, status, finished_at };
}
