import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { VERBS } from '../domain/command.js';

/** Whose series it is. All values are labels as l3afd names them; `''` for a probe's interface, direction and address. */
export interface ProgramLabels {
  readonly program: string;
  /** `xdpingress`, `ingress` or `egress`. */
  readonly direction: string;
  readonly iface: string;
  /** `ipv4_address` as the commands gave it. */
  readonly address: string;
}

export interface RunningProgram extends ProgramLabels {
  readonly version: string;
  /** When it started, where that is known; otherwise the time at which it was first reported as running. */
  readonly startedAt?: Date;
}

/** What was read from one map of a program for one `monitor_maps` entry. */
export interface MonitorSample extends ProgramLabels {
  readonly map: string;
  readonly key: number | string;
  readonly aggregator: string;
  readonly value: number;
}

/** An element of `L3AFALLHOSTDATA.AllStats`. */
export interface Stat {
  readonly MetricName: string;
  readonly Labels: readonly { readonly Name: string; readonly Value: string }[];
  readonly Value: number;
  /** `MetricType` of Prometheus' client model: 0 counter, 1 gauge. */
  readonly Type: 0 | 1;
}

export type ReconcileResult = 'unchanged' | 'repaired' | 'failed';

const PROGRAM = ['host', 'ebpf_program', 'direction', 'interface_name', 'ipv4_address'] as const;
const RUNNING = [...PROGRAM, 'version'] as const;
const MONITOR = [...PROGRAM, 'map_name'] as const;

/** From one flipped slot to a package fetched over a slow line. */
const APPLY_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const WAIT_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300];

/**
 * Everything that is counted. l3afd's metrics keep their names, types and labels, so that its dashboards work unchanged; with
 * `direction` added where it was missing. The agent's own begin with `l3af_agent_`.
 */
export class Metrics {
  readonly #host: string;
  readonly #now: () => number;
  readonly #registry = new Registry();
  readonly #l3afd = l3afdMetrics(this.#registry);
  readonly #own = ownMetrics(this.#registry);
  /** Since when each running program runs, in seconds since 1970, by its labels and version. */
  #startTimes = new Map<string, number>();

  /**
   * @param host name of the host, the label of that name
   * @param now milliseconds since 1970
   */
  constructor(host: string, now: () => number = Date.now) {
    this.#host = host;
    this.#now = now;
  }

  /** Begins to watch the process itself: memory, processor time, file descriptors, lag of the event loop. */
  start(): void {
    collectDefaultMetrics({ register: this.#registry, prefix: 'l3af_agent_' });
  }

  programStarted(program: ProgramLabels): void {
    this.#l3afd.started.inc(this.#labels(program));
  }

  programStopped(program: ProgramLabels): void {
    this.#l3afd.stopped.inc(this.#labels(program));
  }

  programUpdated(program: ProgramLabels): void {
    this.#l3afd.updated.inc(this.#labels(program));
  }

  updateFailed(program: ProgramLabels): void {
    this.#l3afd.updateFailed.inc(this.#labels(program));
  }

  deployFailed(program: ProgramLabels): void {
    this.#l3afd.deployFailed.inc(this.#labels(program));
  }

  /** What runs now, whole: series of programs that are not named end, start times of those that stay are kept. */
  setRunning(programs: readonly RunningProgram[]): void {
    const startTimes = new Map<string, number>();
    this.#l3afd.running.reset();
    this.#l3afd.startTime.reset();
    for (const program of programs) {
      const labels = this.#labels(program);
      const identity = JSON.stringify([labels, program.version]);
      const firstSeen = this.#startTimes.get(identity) ?? Math.floor(this.#now() / 1000);
      const startTime = program.startedAt === undefined ? firstSeen : Math.floor(program.startedAt.getTime() / 1000);
      startTimes.set(identity, startTime);
      this.#l3afd.running.set({ ...labels, version: program.version }, 1);
      this.#l3afd.startTime.set(labels, startTime);
    }
    this.#startTimes = startTimes;
  }

  /** What the monitored maps say now, whole: series that are not named end. */
  setMonitored(samples: readonly MonitorSample[]): void {
    this.#l3afd.monitorMap.reset();
    for (const sample of samples) {
      const mapName = `${sample.map}_${sample.key}_${sample.aggregator}`;
      this.#l3afd.monitorMap.set({ ...this.#labels(sample), map_name: mapName }, sample.value);
    }
  }

  /**
   * @param verb as it came; one that does not exist is counted as `other`
   * @param result the acknowledgement's status
   * @param seconds from the beginning of the work to its answer
   */
  commandFinished(verb: string, result: string, seconds: number): void {
    const known = VERBS.find((other) => other === verb) ?? 'other';
    this.#own.commands.inc({ verb: known, result });
    this.#own.applyDuration.observe({ verb: known }, seconds);
  }

  setQueueDepth(commands: number): void {
    this.#own.queueDepth.set(commands);
  }

  /** @param seconds from the arrival of a command to the beginning of the work on it */
  commandWaited(seconds: number): void {
    this.#own.queueWait.observe(seconds);
  }

  reconciled(result: ReconcileResult): void {
    this.#own.reconciles.inc({ result });
    if (result !== 'failed') this.#own.lastReconcile.set(this.#now() / 1000);
  }

  /** A command came that had come before. */
  redelivered(): void {
    this.#own.redeliveries.inc();
  }

  setBrokerConnected(connected: boolean): void {
    this.#own.brokerConnected.set(connected ? 1 : 0);
  }

  /** @param messages acknowledgements that the stream has not confirmed yet */
  setOutboxPending(messages: number): void {
    this.#own.outboxPending.set(messages);
  }

  /** Of {@link text}, for the HTTP header. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything in the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** l3afd's metrics, as a snapshot of the state carries them: labels by name. */
  async allStats(): Promise<Stat[]> {
    const perMetric = await Promise.all(
      Object.values(this.#l3afd).map(async (metric) => {
        const { name, values } = await metric.get();
        return values.map(({ labels, value }): Stat => {
          const Labels = Object.entries(labels).map(([Name, Value]) => ({ Name, Value: String(Value) }));
          const Type = metric instanceof Counter ? 0 : 1;
          return {
            MetricName: name,
            Labels: Labels.toSorted((a, b) => (a.Name < b.Name ? -1 : 1)),
            Value: value,
            Type,
          };
        });
      }),
    );
    return perMetric.flat();
  }

  #labels({ program, direction, iface, address }: ProgramLabels): Record<(typeof PROGRAM)[number], string> {
    return { host: this.#host, ebpf_program: program, direction, interface_name: iface, ipv4_address: address };
  }
}

/** Names, types and labels of l3afd 2.x, `stats/metrics.go`. */
function l3afdMetrics(registry: Registry) {
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
    monitorMap: gauge('l3afd_BPFMonitorMap', 'Value of a monitored map: scalar, max-rate or avg', MONITOR),
  };
}

function ownMetrics(registry: Registry) {
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
    lastReconcile: new Gauge(
      own('last_reconcile_success_timestamp_seconds', 'Last reconciliation that left the host as desired'),
    ),
    redeliveries: new Counter(own('redeliveries_total', 'Commands that were delivered again')),
    brokerConnected: new Gauge(own('broker_connected', '1 while there is a connection to the NATS servers')),
    outboxPending: new Gauge(own('outbox_pending', 'Acknowledgements not yet confirmed by their stream')),
  };
}
