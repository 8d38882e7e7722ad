import { setTimeout as sleep } from 'node:timers/promises';
import type { Lane } from '../apply/lane.js';
import type { Datapath } from '../datapath/datapath.js';
import { companionKey } from '../domain/companion.js';
import type { DesiredState } from '../domain/desired.js';
import { hookKey, TRACING } from '../domain/hook.js';
import type { Observed } from '../domain/observed.js';
import type { Acknowledgement } from '../messages/ack.js';
import { parseCommand } from '../messages/parse.js';
import { parseRequest, REQUEST_VERBS, type ReplyOf, type RequestOf, type RequestVerb } from '../messages/requests.js';
import type { PlanContext } from '../plan/context.js';
import type { WatchedCompanion } from '../reconcile/companion-watch.js';
import type { Host } from '../reconcile/host.js';
import type { Journal } from '../store/journal.js';
import { readChains } from './chains.js';
import { companionsStatus, configView, hooksView, planView, probesStatus, programsView } from './views.js';

/** Something that NATS does not let the agent do although there is a connection. */
export interface BusTrouble {
  readonly task: (typeof BUS_TASKS)[number];
  /** Why, in words. */
  readonly message: string;
}

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
  readonly troubles: () => readonly BusTrouble[];
  readonly lastAnswer: () => Acknowledgement | undefined;
  readonly snapshot: () => Promise<ReplyOf<'state'>>;
}

type Handlers = { readonly [V in RequestVerb]: (request: RequestOf<V>) => Promise<ReplyOf<V>> };

/** How long an observation waits for the current command, in milliseconds. */
const PATIENCE_MS = 1_000;

/**
 * The answers to the read-only requests. The host is observed between two commands. If a command takes long, it is
 * observed during the command, and the answer shows an intermediate state of the kernel.
 */
export function requestHandlers(sources: RequestSources): Record<RequestVerb, (request: unknown) => Promise<unknown>> {
  const { hostName, version, startedAt, datapath, journal, lane, host, lastAnswer, snapshot } = sources;
  const { ready, connected, troubles } = sources;
  const look = () => atOnce(lane, host);
  const handlers: Handlers = {
    async status() {
      const observed = await look();
      const last = lastAnswer();
      return {
        host: hostName,
        version,
        instance_id: journal.instanceId,
        started_at: startedAt.toISOString(),
        ready: ready() && !troubles().some(({ task }) => task === 'consuming'),
        datapath: datapath.kind,
        queued: lane.depth,
        ...(journal.generation !== undefined && { gen: journal.generation }),
        ...(last !== undefined && { last_command: commandView(last) }),
        hooks: hooksView(journal.desired, observed),
        ...probesStatus(journal.desired, observed),
        ...companionsStatus(host.watchedCompanions),
        ...(troubles().length > 0 && { troubles: [...troubles()] }),
      };
    },
    async programs({ iface }) {
      return { host: hostName, programs: programsView(journal.desired, await look(), iface) };
    },
    chains({ iface, stats_ms: statsMs }) {
      const companions = () => host.watchedCompanions;
      return readChains({ ...sources, desired: () => journal.desired, companions, pause: sleep }, iface, statsMs);
    },
    state: snapshot,
    async config() {
      return configView(journal.desired, hostName);
    },
    async health() {
      const checks = healthChecks({
        desired: journal.desired,
        observed: await look(),
        companions: host.watchedCompanions,
        ready: ready(),
        connected: connected(),
        troubles: troubles(),
      });
      return { host: hostName, healthy: checks.every(({ ok }) => ok), checks };
    },
    async plan({ verb, payload }) {
      const command = parseCommand(verb, Buffer.from(JSON.stringify(payload ?? null)), hostName);
      return lane.run(async (turn) => planView(hostName, await host.rehearse(turn, journal.desired, command)));
    },
  };
  return Object.fromEntries(
    REQUEST_VERBS.map((verb) => {
      const handler = handlers[verb] as (request: unknown) => Promise<unknown>;
      return [verb, async (request: unknown) => handler(parseRequest(verb, request))];
    }),
  ) as Record<RequestVerb, (request: unknown) => Promise<unknown>>;
}

/** Observes the host in its turn or, after a while, without a turn, in parallel with the current task. */
async function atOnce(lane: Lane, host: Host): Promise<Observed> {
  const timer = new AbortController();
  const inTurn = lane.run((turn) => host.observe(turn));
  // Its result no longer matters when the other one has answered.
  inTurn.catch(() => undefined);
  const beside = sleep(PATIENCE_MS, undefined, { signal: timer.signal }).then(() => host.observeOutOfTurn());
  beside.catch(() => undefined);
  try {
    return await Promise.race([inTurn, beside]);
  } finally {
    timer.abort();
  }
}

export interface HealthSources {
  readonly desired: DesiredState | null;
  readonly observed: Observed;
  /** What the last check found. */
  readonly companions: readonly WatchedCompanion[];
  readonly ready: boolean;
  readonly connected: boolean;
  /** Why there is no connection, in words, if that is known. */
  readonly refusal?: string | undefined;
  readonly troubles: readonly BusTrouble[];
}

/** Whether everything desired runs, and what is wrong if not. */
export function healthChecks({
  desired,
  observed,
  companions,
  ready,
  connected,
  refusal,
  troubles,
}: HealthSources): ReplyOf<'health'>['checks'] {
  const hooks = hooksView(desired, observed).map(
    ({ iface, direction, attached, desired: wanted, running, foreign }) => {
      const ok = wanted === running && (attached || wanted === 0);
      const count = ok ? [] : [`${running} of ${wanted} programs run`];
      const words = [...count, ...(foreign ?? []).map(({ text }) => text)];
      return { name: `${iface}/${direction}`, ok, ...(words.length > 0 && { message: words.join('; ') }) };
    },
  );
  const { probes } = probesStatus(desired, observed);
  return [
    ready ? { name: 'ready', ok: true } : { name: 'ready', ok: false, message: 'The agent is still starting' },
    connected ? { name: 'broker', ok: true } : { name: 'broker', ok: false, message: noConnection(refusal) },
    ...BUS_TASKS.map((task) => busCheck(task, troubles)),
    ...hooks,
    ...(probes === undefined ? [] : [probeCheck(probes)]),
    ...companions.filter(({ condition }) => condition === 'given-up').map(companionCheck),
  ];
}

function noConnection(refusal: string | undefined): string {
  const what = 'There is no connection to NATS';
  return refusal === undefined ? what : `${what}. ${refusal}`;
}

const BUS_TASKS = ['consuming', 'storing', 'publishing'] as const;

/** Whether commands can be taken, or answers stored. */
function busCheck(name: BusTrouble['task'], troubles: readonly BusTrouble[]): ReplyOf<'health'>['checks'][number] {
  const messages = troubles.filter(({ task }) => task === name).map(({ message }) => message);
  return messages.length === 0 ? { name, ok: true } : { name, ok: false, message: messages.join('. ') };
}

function companionCheck(companion: WatchedCompanion): ReplyOf<'health'>['checks'][number] {
  const { restarts } = companion;
  const message = `It was given up after ${restarts} restarts; a command that names its program starts it again`;
  return { name: `companion of ${companionKey(companion)}`, ok: false, message };
}

function probeCheck({ desired, running }: { desired: number; running: number }): ReplyOf<'health'>['checks'][number] {
  const name = hookKey(TRACING);
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
