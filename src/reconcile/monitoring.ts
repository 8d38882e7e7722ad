import type { Lane, Turn } from '../apply/lane.js';
import type { Config } from '../config.js';
import type { Datapath, MapRead, MapReading } from '../datapath/datapath.js';
import { aggregateOf, type Window, withSample } from '../domain/aggregate.js';
import { type DesiredState, probesOf } from '../domain/desired.js';
import { type Hook, hookFields, sameHook, TRACING, targetName } from '../domain/hook.js';
import { named } from '../domain/mapvalue.js';
import { keyInWords, MOST_KEYS, type MonitorTarget, numberIn, rawKeyInWords, targetOf } from '../domain/monitor.js';
import {
  hookAt,
  type LoadedProgram,
  type MapInfo,
  type Observed,
  observedProbes,
  standingChain,
  standingSubchains,
} from '../domain/observed.js';
import { mapPin, programPin } from '../domain/pins.js';
import { contentDigest, type MonitoredMap, type Program } from '../domain/program.js';
import type { AgentError } from '../errors.js';
import type { L3AFMetaData } from '../messages/snapshot.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics, MonitorSample, ProgramLabels } from '../telemetry/metrics.js';

export interface MonitoringOptions {
  readonly datapath: Pick<Datapath, 'readMaps' | 'runStats'>;
  readonly lane: Lane;
  readonly metrics: Pick<Metrics, 'setMonitored' | 'monitorTruncated' | 'setProgramRuns'>;
  readonly log: Logger;
  /** How many samples a window holds, and whether the kernel counts program runs. */
  readonly config: Pick<Config, 'monitorSamples' | 'runStats'>;
  /** Monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

/** One `monitor_maps` entry of a running program, with the current map. */
interface WatchedMap {
  readonly hook: Hook;
  readonly program: Program;
  readonly address: string;
  readonly map: MapInfo;
  readonly pin: string;
  readonly monitored: MonitoredMap;
  readonly target: MonitorTarget;
  /** The beginning of the names of its windows. */
  readonly name: string;
}

/** One monitored number. */
interface Followed {
  readonly watched: WatchedMap;
  readonly key: string;
  readonly window: Window;
}

/**
 * Reads the monitored maps of programs, all in one pass, and computes the requested aggregates.
 *
 * It reads in the lane, where no step is half done. It keeps nothing open between passes: an open descriptor would keep
 * a map in the kernel that a command wants to remove.
 */
export class Monitoring {
  readonly #options: MonitoringOptions;
  #watched: readonly WatchedMap[] = [];
  /** The programs that the kernel itself runs: the first of each subchain. It counts no others. */
  #entries: ReadonlyMap<string, ProgramLabels> = new Map();
  /** By program, map, field, aggregator and key, so that windows survive a reload of the program. */
  #followed: ReadonlyMap<string, Followed> = new Map();
  /** Keys that were already created. If a program deletes one, it is not created again. */
  #made: ReadonlySet<string> = new Set();
  /** Failures to read that were already reported. */
  #told: ReadonlySet<string> = new Set();

  constructor(options: MonitoringOptions) {
    this.#options = options;
  }

  /** Takes the new lists of running programs and of what to read from them. */
  follow(turn: Turn, observed: Observed, desired: DesiredState): void {
    turn.assertHeld();
    const failures = new Map<string, unknown>();
    const ofChains = desired.chains.flatMap(({ hook, programs }) => {
      const standing = standingChain(hookAt(observed, hook));
      const address = desired.addresses[targetName(hook)] ?? '';
      return programs.flatMap((program) => watchedOf({ hook, program, address }, standing, failures));
    });
    const ofProbes = probesOf(desired).flatMap((program) =>
      watchedOf({ hook: TRACING, program, address: '' }, observedProbes(observed), failures),
    );
    this.#watched = [...ofChains, ...ofProbes];
    this.#entries = new Map(this.#options.config.runStats ? entriesOf(observed, desired) : []);
    for (const [name, err] of failures) {
      if (!this.#told.has(name)) this.#options.log.warn({ err }, 'cannot monitor a map');
    }
    const known = this.#watched.flatMap(({ name }) => [`truncated ${name}`, `unreadable ${name}`]);
    this.#told = new Set([...failures.keys(), ...known.filter((told) => this.#told.has(told))]);
  }

  /** Runs one pass. */
  async tick(): Promise<void> {
    const { lane, datapath, metrics, config, now = performance.now.bind(performance) } = this.#options;
    if (this.#watched.length + this.#followed.size + this.#entries.size === 0 && !config.runStats) return;
    const runs = await lane.run(async () => {
      const watched = this.#watched;
      const { reads, places } = passOf(watched, this.#made);
      const readings = await datapath.readMaps(reads);
      this.#noteMade(watched, places, readings);
      this.#take(watched, places, readings, now());
      return datapath.runStats([...this.#entries.keys()]);
    });
    metrics.setProgramRuns(
      [...runs].flatMap(([pin, { count, timeNs }]) => {
        const labels = this.#entries.get(pin);
        return labels === undefined ? [] : [{ ...labels, count, seconds: timeNs / 1e9 }];
      }),
    );
    metrics.setMonitored(
      [...this.#followed.values()].flatMap(({ watched, key, window }): MonitorSample[] => {
        const { hook, program, address, monitored } = watched;
        const value = aggregateOf(window, monitored.aggregator);
        if (value === undefined) return [];
        const { name: map, field, aggregator, labels } = monitored;
        return [{ program: program.name, ...hookFields(hook), address, map, key, field, aggregator, labels, value }];
      }),
    );
  }

  /** The values read from a program's maps, in the form of the snapshot. */
  of(hook: Hook, program: string): L3AFMetaData['MetricsBpfMaps'] {
    const own = [...this.#followed.values()].filter(
      ({ watched }) => watched.program.name === program && sameHook(watched.hook, hook),
    );
    return Object.fromEntries(
      own.map(({ watched: { monitored }, key, window }) => {
        const { name, field, aggregator } = monitored;
        const known = { MapName: name, Key: numericKey(key), Aggregator: aggregator };
        return [
          [name, key, ...(field === '' ? [] : [field]), aggregator].join('_'),
          { ...known, Values: [...window.values], LastValue: window.last },
        ];
      }),
    );
  }

  #noteMade(
    watched: readonly WatchedMap[],
    places: readonly ReadPosition[],
    readings: readonly (MapReading | undefined)[],
  ): void {
    const there = watched.filter((_, index) => readings[places[index]!.read] !== undefined);
    this.#made = new Set(there.map(keyName));
  }

  #take(
    watched: readonly WatchedMap[],
    places: readonly ReadPosition[],
    readings: readonly (MapReading | undefined)[],
    at: number,
  ): void {
    const followed = new Map<string, Followed>();
    for (const [index, one] of watched.entries()) {
      const { read, key: keyIndex } = places[index]!;
      const reading = readings[read];
      if (reading === undefined) continue;
      if (reading.failure !== undefined) {
        this.#tellUnreadable(one, reading.failure);
        continue;
      }
      if (one.target.key !== undefined) {
        this.#add(followed, one, keyInWords(one.monitored.key), reading, keyIndex, at);
        continue;
      }
      if (reading.more) this.#tellTruncated(one);
      for (const [position, raw] of reading.keys.entries()) {
        this.#add(followed, one, rawKeyInWords(one.map, raw), reading, position, at);
      }
    }
    this.#followed = followed;
  }

  #add(all: Map<string, Followed>, watched: WatchedMap, key: string, reading: MapReading, index: number, at: number) {
    const { aggregator } = watched.monitored;
    const name = `${watched.name} ${key}`;
    const sample = numberIn(reading.values[index]!, reading.stride, watched.target.number);
    const window = withSample(
      this.#followed.get(name)?.window,
      aggregator,
      sample,
      at,
      this.#options.config.monitorSamples,
    );
    all.set(name, { watched, key, window });
  }

  #tellUnreadable({ name, hook, program, monitored }: WatchedMap, err: AgentError): void {
    if (!this.#tellOnce(`unreadable ${name}`)) return;
    const fields = { ...hook, program: program.name, map: monitored.name, err };
    this.#options.log.warn(fields, 'cannot monitor a map');
  }

  #tellTruncated({ name, hook, program, monitored }: WatchedMap): void {
    this.#options.metrics.monitorTruncated();
    if (!this.#tellOnce(`truncated ${name}`)) return;
    const fields = { ...hook, program: program.name, map: monitored.name, read: MOST_KEYS };
    this.#options.log.warn(fields, 'a monitored map has more keys than are read');
  }

  /** @returns whether this is reported for the first time */
  #tellOnce(what: string): boolean {
    if (this.#told.has(what)) return false;
    this.#told = new Set([...this.#told, what]);
    return true;
  }
}

/** Where an entry's numbers are found in the results of a pass. */
interface ReadPosition {
  readonly read: number;
  readonly key: number;
}

/** The identity of a key in the current map. */
function keyName({ map, target: { key } }: WatchedMap): string {
  return `${map.id} ${key?.toString('hex')}`;
}

/** The reads of one pass. Keys of one map are read together, each once. */
function passOf(
  watched: readonly WatchedMap[],
  made: ReadonlySet<string>,
): { reads: MapRead[]; places: ReadPosition[] } {
  const reads: { pin: string; mapId: number; keys: Uint8Array[] | { atMost: number }; make: Uint8Array[] }[] = [];
  const known = new Map<string, number>();
  const places = watched.map((one): ReadPosition => {
    const { pin, map, target } = one;
    const { key, isMade } = target;
    const name = key === undefined ? `${pin} all` : pin;
    const read = known.get(name) ?? reads.length;
    if (read === reads.length) {
      known.set(name, read);
      reads.push({ pin, mapId: map.id, keys: key === undefined ? { atMost: MOST_KEYS } : [], make: [] });
    }
    const { keys, make } = reads[read]!;
    if (isMade && key !== undefined && !made.has(keyName(one))) make.push(key);
    if ('atMost' in keys || key === undefined) return { read, key: 0 };
    return { read, key: keys.push(key) - 1 };
  });
  return { reads, places };
}

function entriesOf({ hooks }: Observed, { addresses }: DesiredState): [pin: string, labels: ProgramLabels][] {
  return hooks.flatMap((at) =>
    standingSubchains(at).flatMap(({ programs: [entry] }): [string, ProgramLabels][] => {
      if (entry === undefined) return [];
      const address = addresses[targetName(at.hook)] ?? '';
      return [[programPin(entry.dir), { program: entry.name, ...hookFields(at.hook), address }]];
    }),
  );
}

/** @param standing what runs where the program is desired */
function watchedOf(
  owner: Pick<WatchedMap, 'hook' | 'program' | 'address'>,
  standing: readonly Pick<LoadedProgram, 'digest' | 'dir' | 'maps'>[],
  failures: Map<string, unknown>,
): WatchedMap[] {
  const { hook, program } = owner;
  const { enabled, monitors = [] } = program;
  if (!enabled || monitors.length === 0) return [];
  const digest = contentDigest(program);
  const loaded = standing.find((other) => other.digest === digest);
  if (loaded === undefined) return [];
  return monitors.flatMap((monitored, index): WatchedMap[] => {
    const { name: mapName, field, aggregator } = monitored;
    const found = named(loaded.maps, mapName);
    if (found === undefined) return [];
    const name = JSON.stringify([targetName(hook), hook.direction, program.name, mapName, field, aggregator]);
    try {
      const target = targetOf(found, monitored, `${program.path}.monitor_maps.${index}`);
      const { map } = found;
      return [{ ...owner, map, pin: mapPin(loaded.dir, map.name), monitored, target, name }];
    } catch (error) {
      failures.set(name, error);
      return [];
    }
  });
}

/** In l3afd's snapshots keys are numbers. */
function numericKey(key: string): number | string {
  return /^-?[0-9]{1,15}$/.test(key) ? Number(key) : key;
}
