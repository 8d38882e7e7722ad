import type { Lane } from '../apply/lane.js';
import type { Config } from '../config.js';
import type { Datapath, MapRead, MapReading } from '../datapath/datapath.js';
import { aggregateOf, type Window, withSample } from '../domain/aggregate.js';
import { type DesiredState, probesOf } from '../domain/desired.js';
import { type Hook, NO_HOOK, type NoHook } from '../domain/hook.js';
import { keyInWords, MOST_KEYS, type MonitorTarget, numberIn, rawKeyInWords, targetOf } from '../domain/monitor.js';
import {
  type Generation,
  hookAt,
  type MapInfo,
  type Observed,
  observedProbes,
  standingChain,
  standingStrands,
} from '../domain/observed.js';
import { mapPin, mapSegment, programPin } from '../domain/pins.js';
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
  /** How many samples a window holds, and whether the kernel counts the runs of programs. */
  readonly config: Pick<Config, 'monitorSamples' | 'runStats'>;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

/** One `monitor_maps` entry of a program that runs, with its map as it is now. */
interface Watched {
  readonly hook: Hook | NoHook;
  readonly program: Program;
  readonly address: string;
  readonly map: MapInfo;
  readonly pin: string;
  readonly monitored: MonitoredMap;
  readonly target: MonitorTarget;
  /** Beginning of the names of its windows. */
  readonly name: string;
}

/** A number that is followed. */
interface Followed {
  readonly watched: Watched;
  readonly key: string;
  readonly window: Window;
}

/**
 * Reads the maps that programs are to be monitored by, all in one pass, and makes of the numbers what was asked for.
 *
 * It reads in the lane, where no step is half done, and holds nothing open from one pass to the next: an open descriptor would keep a map
 * in the kernel that a command wants to see gone.
 */
export class Monitoring {
  readonly #options: MonitoringOptions;
  #watched: readonly Watched[] = [];
  /** The programs that the kernel runs itself, of each chain the first: it counts no others. */
  #entries: ReadonlyMap<string, ProgramLabels> = new Map();
  /** By program, map, field, aggregator and key, so that windows outlive a reload of the program. */
  #followed: ReadonlyMap<string, Followed> = new Map();
  /** Keys that were made once: a program that takes one away again has its reasons. */
  #made: ReadonlySet<string> = new Set();
  /** What could not be read and was told of already. */
  #told: ReadonlySet<string> = new Set();

  constructor(options: MonitoringOptions) {
    this.#options = options;
  }

  /** Takes up what runs and what is to be read of it. To be called in the lane. */
  follow(observed: Observed, desired: DesiredState): void {
    const failures = new Map<string, unknown>();
    const ofChains = desired.chains.flatMap(({ hook, programs }) => {
      const standing = standingChain(hookAt(observed, hook));
      const address = desired.addresses[hook.iface] ?? '';
      return programs.flatMap((program) => watchedOf({ hook, program, address }, standing, failures));
    });
    const ofProbes = probesOf(desired).flatMap((program) =>
      watchedOf({ hook: NO_HOOK, program, address: '' }, observedProbes(observed), failures),
    );
    this.#watched = [...ofChains, ...ofProbes];
    this.#entries = new Map(this.#options.config.runStats ? entriesOf(observed, desired) : []);
    for (const [name, err] of failures) {
      if (!this.#told.has(name)) this.#options.log.warn({ err }, 'cannot monitor a map');
    }
    const known = this.#watched.flatMap(({ name }) => [`truncated ${name}`, `unreadable ${name}`]);
    this.#told = new Set([...failures.keys(), ...known.filter((told) => this.#told.has(told))]);
  }

  /** One pass. */
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
        return [{ program: program.name, ...hook, address, map, key, field, aggregator, labels, value }];
      }),
    );
  }

  /** What was read of a program's maps, as a snapshot has it. */
  of({ iface, direction }: Hook | NoHook, program: string): L3AFMetaData['MetricsBpfMaps'] {
    const own = [...this.#followed.values()].filter(
      ({ watched: { hook, ...other } }) =>
        other.program.name === program && hook.iface === iface && hook.direction === direction,
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
    watched: readonly Watched[],
    places: readonly Place[],
    readings: readonly (MapReading | undefined)[],
  ): void {
    const there = watched.filter((_, index) => readings[places[index]!.read] !== undefined);
    this.#made = new Set(there.map(keyName));
  }

  #take(
    watched: readonly Watched[],
    places: readonly Place[],
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

  #add(all: Map<string, Followed>, watched: Watched, key: string, reading: MapReading, index: number, at: number) {
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

  #tellUnreadable({ name, hook, program, monitored }: Watched, err: AgentError): void {
    if (!this.#tellOnce(`unreadable ${name}`)) return;
    const fields = { ...hook, program: program.name, map: monitored.name, err };
    this.#options.log.warn(fields, 'cannot monitor a map');
  }

  #tellTruncated({ name, hook, program, monitored }: Watched): void {
    this.#options.metrics.monitorTruncated();
    if (!this.#tellOnce(`truncated ${name}`)) return;
    const fields = { ...hook, program: program.name, map: monitored.name, read: MOST_KEYS };
    this.#options.log.warn(fields, 'a monitored map has more keys than are read');
  }

  /** @returns whether this was not told before */
  #tellOnce(what: string): boolean {
    if (this.#told.has(what)) return false;
    this.#told = new Set([...this.#told, what]);
    return true;
  }
}

/** Where an entry's numbers come in a pass. */
interface Place {
  readonly read: number;
  readonly key: number;
}

/** A key of a map that is there now. */
function keyName({ map, target: { key } }: Watched): string {
  return `${map.id} ${key?.toString('hex')}`;
}

/** The reads of one pass: keys of one map are read together, each once. */
function passOf(watched: readonly Watched[], made: ReadonlySet<string>): { reads: MapRead[]; places: Place[] } {
  const reads: { pin: string; mapId: number; keys: Uint8Array[] | { atMost: number }; make: Uint8Array[] }[] = [];
  const known = new Map<string, number>();
  const places = watched.map((one): Place => {
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
    standingStrands(at).flatMap(({ programs: [entry] }): [string, ProgramLabels][] => {
      if (entry === undefined) return [];
      const address = addresses[at.hook.iface] ?? '';
      return [[programPin(entry.dir), { program: entry.name, ...at.hook, address }]];
    }),
  );
}

/** @param standing what runs where the program is desired */
function watchedOf(
  owner: Pick<Watched, 'hook' | 'program' | 'address'>,
  standing: readonly Pick<Generation, 'digest' | 'dir' | 'maps'>[],
  failures: Map<string, unknown>,
): Watched[] {
  const { hook, program } = owner;
  const { enabled, monitors = [] } = program;
  if (!enabled || monitors.length === 0) return [];
  const digest = contentDigest(program);
  const generation = standing.find((other) => other.digest === digest);
  if (generation === undefined) return [];
  return monitors.flatMap((monitored, index): Watched[] => {
    const { name: mapName, field, aggregator } = monitored;
    const map = generation.maps.find(({ name }) => name === mapSegment(mapName));
    if (map === undefined) return [];
    const name = JSON.stringify([hook.iface, hook.direction, program.name, mapName, field, aggregator]);
    try {
      const target = targetOf(map, monitored, `${program.path}.monitor_maps.${index}`);
      return [{ ...owner, map, pin: mapPin(generation.dir, mapName), monitored, target, name }];
    } catch (error) {
      failures.set(name, error);
      return [];
    }
  });
}

/** l3afd's keys are numbers. */
function numericKey(key: string): number | string {
  return /^-?[0-9]{1,15}$/.test(key) ? Number(key) : key;
}
