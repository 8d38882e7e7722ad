import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/* The families of metrics: their names, types and labels. */

export const PROGRAM = ['host', 'ebpf_program', 'direction', 'interface_name', 'ipv4_address'] as const;
const RUNNING = [...PROGRAM, 'version'] as const;
export const COMPANION = ['ebpf_program', 'direction', 'interface_name'] as const;
/** From one changed slot to a package that is fetched over a slow line. */
const APPLY_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const WAIT_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300];

/** Names, types and labels of l3afd 2.x, `stats/metrics.go`. */
export function l3afdMetrics(registry: Registry) {
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name, help, labelNames: PROGRAM, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Gauge({ name, help, labelNames, registers });
  return {
    started: counter('l3afd_BPFStartCount', 'Starts of eBPF programs'),
    stopped: counter('l3afd_BPFStopCount', 'Stops of eBPF programs'),
    updated: counter('l3afd_BPFUpdateCount', 'Updates of eBPF programs'),
    updateFailed: counter('l3afd_BPFUpdateFailedCount', 'Failed updates of eBPF programs'),
    deployFailed: counter('l3afd_BPFDeployFailedCount', 'Failed deployments of eBPF programs'),
    running: gauge('l3afd_BPFRunning', '1 for each running eBPF program; 0 if its companion was given up', RUNNING),
    startTime: gauge('l3afd_BPFStartTime', 'Start of the eBPF program, in seconds since 1970', PROGRAM),
  };
}

/** l3afd's gauge of monitored maps. @param labels names of further labels from payloads */
export function monitorMapGauge(registry: Registry, labels: readonly string[]) {
  return new Gauge({
    name: 'l3afd_BPFMonitorMap',
    help: 'Number read from a monitored map, by <map>_<key>_<aggregator>',
    labelNames: [...PROGRAM, 'map_name', ...labels],
    registers: [registry],
  });
}

/** The agent's own metrics. */
export function ownMetrics(registry: Registry) {
  const registers = [registry];
  const own = (name: string, help: string) => ({ name: `l3af_agent_${name}`, help, registers });
  return {
    commands: new Counter({ ...own('commands_total', 'Commands answered'), labelNames: ['verb', 'result'] }),
    applyDuration: new Histogram({
      ...own('apply_duration_seconds', 'Time from the start of a command to its answer'),
      labelNames: ['verb'],
      buckets: APPLY_SECONDS,
    }),
    queueDepth: new Gauge(own('queue_depth', 'Commands that wait in the queue')),
    queueWait: new Histogram({
      ...own('queue_wait_seconds', 'Time that commands waited in the queue'),
      buckets: WAIT_SECONDS,
    }),
    reconciles: new Counter({ ...own('reconcile_total', 'Periodic reconciliations'), labelNames: ['result'] }),
    repairSteps: new Counter({ ...own('repair_steps_total', 'Steps executed by repairs'), labelNames: ['step'] }),
    lastReconcile: new Gauge(
      own('last_reconcile_success_timestamp_seconds', 'Last reconciliation that left the host as desired'),
    ),
    companionRestarts: new Counter({
      ...own('companion_restarts_total', 'Restarts of companions that did not run'),
      labelNames: COMPANION,
    }),
    companionRunning: new Gauge({
      ...own('companion_running', '1 for a companion that runs, 0 for one that should run but does not'),
      labelNames: COMPANION,
    }),
    companionGivenUp: new Gauge({
      ...own('companion_given_up', '1 for a companion that is no longer restarted'),
      labelNames: COMPANION,
    }),
    monitorTruncations: new Counter(
      own('monitor_truncations_total', 'Readings of a map with more keys than the agent reads'),
    ),
    programRuns: new Counter({
      ...own('program_runs_total', 'Runs of an attached eBPF program, as the kernel counts them with run_stats'),
      labelNames: PROGRAM,
    }),
    programRunSeconds: new Counter({
      ...own(
        'program_run_seconds_total',
        'Time that the kernel spent in an attached eBPF program and all programs after it',
      ),
      labelNames: PROGRAM,
    }),
    artifacts: new Counter(own('artifacts_total', 'Packages fetched')),
    artifactBytes: new Counter(own('artifact_bytes_total', 'Bytes of packages fetched')),
    artifactSeconds: new Histogram({
      ...own('artifact_seconds', 'Time to fetch a package'),
      buckets: WAIT_SECONDS,
    }),
    eventsDropped: new Counter(
      own('events_dropped_total', 'Events that were dropped because too many waited for NATS'),
    ),
    redeliveries: new Counter(own('redeliveries_total', 'Commands that were delivered again')),
    brokerConnected: new Gauge(own('broker_connected', '1 while there is a connection to the NATS servers')),
    cannotConsume: new Gauge(
      own('cannot_consume', '1 while there is a connection to the NATS servers but no command can be taken'),
    ),
    cannotStore: new Gauge(
      own(
        'cannot_store',
        '1 while there is a connection to the NATS servers but they do not store what the agent sends',
      ),
    ),
    outboxPending: new Gauge(own('outbox_pending', 'Acknowledgements not yet confirmed by their stream')),
  };
}
