import { collectDefaultMetrics, Registry } from 'prom-client';
import { VERBS } from '../domain/command.js';
import type { CompanionCondition } from '../domain/restarts.js';
import { type COMPANION, l3afdMetrics, monitorMapGauge, ownMetrics, type PROGRAM } from './families.js';
import { type Format, inFormat } from './openmetrics.js';

/**
 * The program of a series. All values become labels with l3afd's names. A probe has `''` for interface, direction and
 * address.
 */
export interface ProgramLabels {
  readonly program: string;
  /** `xdpingress`, `ingress` or `egress`. */
  readonly direction: string;
  readonly iface: string;
  /** `ipv4_address` from the commands. */
  readonly address: string;
}

export interface RunningProgram extends ProgramLabels {
  readonly version: string;
  /** When it started, if known; otherwise the time when it was first reported as running. */
  readonly startedAt?: Date;
}

/** What was read from one map of a program for one `monitor_maps` entry. */
export interface MonitorSample extends ProgramLabels {
  readonly map: string;
  readonly key: string;
  /** Field of the value; '' for the whole value. */
  readonly field: string;
  readonly aggregator: string;
  /** Further labels. */
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What the kernel has counted for a program since it was loaded. */
export interface ProgramRuns extends ProgramLabels {
  readonly count: number;
  readonly seconds: number;
}

/** An element of `L3AFALLHOSTDATA.AllStats`. */
export interface Stat {
  readonly MetricName: string;
  readonly Labels: readonly { readonly Name: string; readonly Value: string }[];
  readonly Value: number;
  /** `MetricType` of Prometheus' client model: 0 counter, 1 gauge. */
  readonly Type: 0 | 1;
}

export interface CompanionStatus extends ProgramLabels {
  readonly condition: CompanionCondition;
}

export type ReconcileResult = 'unchanged' | 'repaired' | 'failed';

/** How often the delay of the event loop is measured. The default of 10 ms would wake an idle agent 100 times a second. */
const EVENT_LOOP_PRECISION_MS = 1_000;

/**
 * All metrics. l3afd's metrics keep their names, types and labels, so that its dashboards work unchanged. `direction`
 * is added where l3afd has none. The agent's own names begin with `l3af_agent_`.
 */
export class Metrics {
  readonly #host: string;
  readonly #now: () => number;
  readonly #registry = new Registry();
  readonly #l3afd = l3afdMetrics(this.#registry);
  readonly #own = ownMetrics(this.#registry);
  #monitorMap = monitorMapGauge(this.#registry, []);
  /** Names of the labels from {@link MonitorSample.labels}. */
  #monitorLabels = '';
  #running: readonly RunningProgram[] = [];
  /** Labels of the companions that were given up, as JSON. */
  #givenUp: ReadonlySet<string> = new Set();
  /** Since when each running program runs, in seconds since 1970, by its labels and version. */
  #startTimes = new Map<string, number>();

  /**
   * @param host name of the host, for the label `host`
   * @param now milliseconds since 1970
   */
  constructor(host: string, now: () => number = Date.now) {
    this.#host = host;
    this.#now = now;
  }

  /** Begins to measure the process itself: memory, processor time, file descriptors, lag of the event loop. */
  start(): void {
    collectDefaultMetrics({
      register: this.#registry,
      prefix: 'l3af_agent_',
      eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS,
    });
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

  /**
   * Sets the complete list of running programs. Series of other programs end. Programs that stay keep their start
   * times.
   */
  setRunning(programs: readonly RunningProgram[]): void {
    const startTimes = new Map<string, number>();
    this.#running = programs;
    this.#l3afd.startTime.reset();
    for (const program of programs) {
      const labels = this.#labels(program);
      const identity = JSON.stringify([labels, program.version]);
      const firstSeen = this.#startTimes.get(identity) ?? Math.floor(this.#now() / 1000);
      const startTime = program.startedAt === undefined ? firstSeen : Math.floor(program.startedAt.getTime() / 1000);
      startTimes.set(identity, startTime);
      this.#l3afd.startTime.set(labels, startTime);
    }
    this.#startTimes = startTimes;
    this.#showRunning();
  }

  /** A program without its companion is not what was asked for, though packets pass it: its series is 0. */
  #showRunning(): void {
    this.#l3afd.running.reset();
    for (const program of this.#running) {
      const labels = this.#labels(program);
      const isGivenUp = this.#givenUp.has(JSON.stringify(companionLabels(program)));
      this.#l3afd.running.set({ ...labels, version: program.version }, isGivenUp ? 0 : 1);
    }
  }

  /** Sets the complete list of samples from monitored maps. Other series end. */
  setMonitored(samples: readonly MonitorSample[]): void {
    this.#monitorMap.reset();
    const labels = [...new Set(samples.flatMap((sample) => Object.keys(sample.labels)))].toSorted();
    if (labels.join() !== this.#monitorLabels) {
      this.#monitorLabels = labels.join();
      this.#registry.removeSingleMetric('l3afd_BPFMonitorMap');
      this.#monitorMap = monitorMapGauge(this.#registry, labels);
    }
    for (const sample of samples) {
      const { map, key, field, aggregator } = sample;
      const name = [map, key, ...(field === '' ? [] : [field]), aggregator].join('_');
      this.#monitorMap.set({ ...sample.labels, ...this.#labels(sample), map_name: name }, sample.value);
    }
  }

  /** Counts a map that had more keys than are read. */
  monitorTruncated(): void {
    this.#own.monitorTruncations.inc();
  }

  /** Sets the complete list of run counts from the kernel. Other series end. */
  setProgramRuns(programs: readonly ProgramRuns[]): void {
    const { programRuns, programRunSeconds } = this.#own;
    programRuns.reset();
    programRunSeconds.reset();
    for (const program of programs) {
      programRuns.inc(this.#labels(program), program.count);
      programRunSeconds.inc(this.#labels(program), program.seconds);
    }
  }

  /** An arrow function, so that it can be passed as a callback. */
  readonly artifactFetched = ({ bytes, seconds }: { readonly bytes: number; readonly seconds: number }): void => {
    this.#own.artifacts.inc();
    this.#own.artifactBytes.inc(bytes);
    this.#own.artifactSeconds.observe(seconds);
  };

  eventDropped(): void {
    this.#own.eventsDropped.inc();
  }

  /** @param step what a repair does: `load`, `attach` … */
  repairing(step: string): void {
    this.#own.repairSteps.inc({ step });
  }

  /**
   * @param verb as received; an unknown one is counted as `other`
   * @param result the acknowledgement's status
   * @param seconds from the start of the command to its answer
   */
  commandFinished(verb: string, result: string, seconds: number): void {
    const known = VERBS.find((other) => other === verb) ?? 'other';
    this.#own.commands.inc({ verb: known, result });
    this.#own.applyDuration.observe({ verb: known }, seconds);
  }

  setQueueDepth(commands: number): void {
    this.#own.queueDepth.set(commands);
  }

  /** @param seconds from the arrival of a command to its start */
  commandWaited(seconds: number): void {
    this.#own.queueWait.observe(seconds);
  }

  reconciled(result: ReconcileResult): void {
    this.#own.reconciles.inc({ result });
    if (result !== 'failed') this.#own.lastReconcile.set(this.#now() / 1000);
  }

  /** Counts the restart of a companion that did not run as it should. */
  companionRestarted(companion: ProgramLabels): void {
    this.#own.companionRestarts.inc(companionLabels(companion));
  }

  /** Sets the complete list of companions that should run. Series of others end, except those of restarts. */
  setCompanions(companions: readonly CompanionStatus[]): void {
    this.#own.companionRunning.reset();
    this.#own.companionGivenUp.reset();
    for (const companion of companions) {
      const labels = companionLabels(companion);
      this.#own.companionRunning.set(labels, companion.condition === 'running' ? 1 : 0);
      this.#own.companionGivenUp.set(labels, companion.condition === 'given-up' ? 1 : 0);
    }
    const givenUp = companions.filter(({ condition }) => condition === 'given-up');
    this.#givenUp = new Set(givenUp.map((companion) => JSON.stringify(companionLabels(companion))));
    this.#showRunning();
  }

  /** Counts a command that was delivered again. */
  redelivered(): void {
    this.#own.redeliveries.inc();
  }

  setBrokerConnected(connected: boolean): void {
    this.#own.brokerConnected.set(connected ? 1 : 0);
  }

  /** What does not work although there is a connection. */
  setBusTroubles({ consuming, storing }: { readonly consuming: boolean; readonly storing: boolean }): void {
    this.#own.cannotConsume.set(consuming ? 1 : 0);
    this.#own.cannotStore.set(storing ? 1 : 0);
  }

  /** @param messages acknowledgements that the stream has not confirmed yet */
  setOutboxPending(messages: number): void {
    this.#own.outboxPending.set(messages);
  }

  /** All metrics as text for Prometheus. */
  async text(format: Format = 'prometheus'): Promise<string> {
    return inFormat(await this.#registry.metrics(), format);
  }

  /** l3afd's metrics, as in a snapshot of the state, with labels by name. */
  async allStats(): Promise<Stat[]> {
    const all = [...Object.values(this.#l3afd), this.#monitorMap];
    return (await Promise.all(all.map((metric) => metric.get()))).flatMap(statsOf);
  }

  /** All metrics in the same form. Of a histogram, only its counters. */
  async everything(): Promise<Stat[]> {
    return (await this.#registry.getMetricsAsJSON()).flatMap(statsOf);
  }

  #labels({ program, direction, iface, address }: ProgramLabels): Record<(typeof PROGRAM)[number], string> {
    return { host: this.#host, ebpf_program: program, direction, interface_name: iface, ipv4_address: address };
  }
}

function statsOf({ name, type, values }: MetricObject): Stat[] {
  return values.map(({ labels, value, metricName }): Stat => {
    const Labels = Object.entries(labels).map(([Name, Value]) => ({ Name, Value: String(Value) }));
    return {
      MetricName: metricName ?? name,
      Labels: Labels.toSorted((a, b) => (a.Name < b.Name ? -1 : 1)),
      Value: value,
      // prom-client gives a metric's type as a word, although its declarations say otherwise.
      Type: String(type) === 'gauge' ? 1 : 0,
    };
  });
}

interface MetricObject {
  readonly name: string;
  readonly type: unknown;
  readonly values: readonly {
    readonly labels: Readonly<Record<string, unknown>>;
    readonly value: number;
    readonly metricName?: string | undefined;
  }[];
}

function companionLabels({ program, direction, iface }: ProgramLabels): Record<(typeof COMPANION)[number], string> {
  return { ebpf_program: program, direction, interface_name: iface };
}
