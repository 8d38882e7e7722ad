import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/*
 * The families of metrics: their names, types and labels.
 */

export const PROGRAM = ['host', 'ebpf_program', 'direction', 'interface_name', 'ipv4_address'] as const;
const RUNNING = [...PROGRAM, 'version'] as const;
export const COMPANION = ['ebpf_program', 'direction', 'interface_name'] as const;
/** From one flipped slot to a package fetched over a slow line. */
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
    updateFailed: counter('l3afd_BPFUpdateFailedCount', 'Updates of eBPF programs that failed'),
    deployFailed: counter('l3afd_BPFDeployFailedCount', 'Deployments of eBPF programs that failed'),
    running: gauge('l3afd_BPFRunning', '1 for each eBPF program that runs', RUNNING),
    startTime: gauge('l3afd_BPFStartTime', 'Start of the eBPF program, in seconds since 1970', PROGRAM),
  };
}

/** l3afd's gauge of monitored maps. @param labels names of further labels that a payload gives */
export function monitorMapGauge(registry: Registry, labels: readonly string[]) {
  return new Gauge({
    name: 'l3afd_BPFMonitorMap',
    help: 'Number read of a monitored map, by <map>_<key>_<aggregator>',
    labelNames: [...PROGRAM, 'map_name', ...labels],
    registers: [registry],
  });
}

/** The agent's own. */
export function ownMetrics(registry: Registry) {
  const registers = [registry];
  const own = (name: string, help: string) => ({ name: `l3af_agent_${name}`, help, registers });
  return {
    commands: new Counter({ ...own('commands_total', 'Commands answered'), labelNames: ['verb', 'result'] }),
    applyDuration: new Histogram({
      ...own('apply_duration_seconds', 'Time from the beginning of the work on a command to its answer'),
      labelNames: ['verb'],
      buckets: APPLY_SECONDS,
    }),
    queueDepth: new Gauge(own('queue_depth', 'Commands that wait in the queue')),
    queueWait: new Histogram({
      ...own('queue_wait_seconds', 'Time that commands waited in the queue'),
      buckets: WAIT_SECONDS,
    }),
    reconciles: new Counter({ ...own('reconcile_total', 'Periodic reconciliations'), labelNames: ['result'] }),
    repairSteps: new Counter({ ...own('repair_steps_total', 'Steps taken by repairs'), labelNames: ['step'] }),
    lastReconcile: new Gauge(
      own('last_reconcile_success_timestamp_seconds', 'Last reconciliation that left the host as desired'),
    ),
    companionRestarts: new Counter({
      ...own('companion_restarts_total', 'Companions that were started again because they did not run'),
      labelNames: COMPANION,
    }),
    companionRunning: new Gauge({
      ...own('companion_running', '1 for a companion that runs, 0 for one that should'),
      labelNames: COMPANION,
    }),
    companionGivenUp: new Gauge({
      ...own('companion_given_up', '1 for a companion that is not started again any more'),
      labelNames: COMPANION,
    }),
    monitorTruncations: new Counter(
      own('monitor_truncations_total', 'Readings of all keys of a map that had more keys than are read'),
    ),
    programRuns: new Counter({
      ...own('program_runs_total', 'Runs of an attached eBPF program, as the kernel counts them with run_stats'),
      labelNames: PROGRAM,
    }),
    programRunSeconds: new Counter({
      ...own('program_run_seconds_total', 'Time that the kernel spent in an attached eBPF program and all behind it'),
      labelNames: PROGRAM,
    }),
    artifacts: new Counter(own('artifacts_total', 'Packages fetched')),
    artifactBytes: new Counter(own('artifact_bytes_total', 'Bytes of packages fetched')),
    artifactSeconds: new Histogram({
      ...own('artifact_seconds', 'Time that a package took to arrive'),
      buckets: WAIT_SECONDS,
    }),
    eventsDropped: new Counter(
      own('events_dropped_total', 'Events that were dropped because too many waited for NATS'),
    ),
    redeliveries: new Counter(own('redeliveries_total', 'Commands that were delivered again')),
    brokerConnected: new Gauge(own('broker_connected', '1 while there is a connection to the NATS servers')),
    outboxPending: new Gauge(own('outbox_pending', 'Acknowledgements not yet confirmed by their stream')),
  };
}
