import { type Code, codeOf, LISTS, type List, type Wire } from './codes.js';

/*
 * The expected results of commands, written as simply as possible from the contract alone. The model shares no code
 * with the agent, knows no plans, and keeps everything in maps.
 */

export interface Place {
  readonly iface: string;
  readonly list: List;
}

/** A running program. Its maps live as long as it, and its successor takes them over where the contract says so. */
export interface Running {
  readonly wire: Wire;
  readonly code: Code;
  /**
   * Map to key to value; undefined for an entry that must not exist. Entries that are not listed were never changed.
   */
  readonly maps: Map<string, Map<bigint, bigint | undefined>>;
}

export interface ModelCommand {
  readonly verb: 'deploy' | 'add' | 'delete';
  /** For a deploy or an add. */
  readonly programs: readonly { readonly place: Place; readonly wires: readonly Wire[] }[];
  /** For a delete. */
  readonly names: readonly { readonly place: Place; readonly names: readonly string[] }[];
  /** The intended fault, if any. */
  readonly fault?: { readonly status: 'rejected' | 'failed'; readonly code: string; readonly path?: string };
}

/** The expected answer. */
export interface Expectation {
  readonly status: 'applied' | 'unchanged' | 'rejected' | 'failed';
  /** One of these codes; empty for a command that succeeds. */
  readonly codes: readonly string[];
  /** Path of the first fault; undefined if the model does not know it. */
  readonly path?: string | undefined;
  /** `<iface>/<list>/<name>@<version>` to the result; only for a command that succeeds. */
  readonly results: Readonly<Record<string, string>>;
}

export class Model {
  readonly #desired = new Map<string, readonly Wire[]>();
  readonly #running = new Map<string, readonly Running[]>();

  constructor(readonly ifaces: readonly string[]) {}

  places(): Place[] {
    return this.ifaces.flatMap((iface) => LISTS.map((list) => ({ iface, list })));
  }

  /** All desired programs, including disabled ones, by `seq_id`. */
  desiredAt(place: Place): readonly Wire[] {
    return this.#desired.get(keyOf(place)) ?? [];
  }

  /** All running programs, in the order in which packets pass them. */
  runningAt(place: Place): readonly Running[] {
    return this.#running.get(keyOf(place)) ?? [];
  }

  /** Applies a command if it is valid. @returns the expected answer */
  apply(command: ModelCommand): Expectation {
    const { fault } = command;
    if (fault !== undefined) return { status: fault.status, codes: [fault.code], path: fault.path, results: {} };
    const conflicts = this.#conflicts(command);
    if (conflicts.length > 0) return { status: 'rejected', codes: conflicts, results: {} };

    const desired = new Map<Place, readonly Wire[]>(
      this.places().map((place) => [place, this.#after(command, place)] as const),
    );
    if ([...desired.values()].some(endsTooEarly)) return { status: 'rejected', codes: ['INVALID_FIELD'], results: {} };
    const next = new Map<Place, readonly Running[]>();
    const troubles: string[] = [];
    const results: Record<string, string> = {};
    for (const [place, wires] of desired) {
      const outcome = advance(this.runningAt(place), wires, place.list);
      if (outcome.trouble.length > 0) troubles.push(...outcome.trouble);
      next.set(place, outcome.running);
      for (const [name, word] of this.#words(place, wires, outcome)) results[`${keyOf(place)}/${name}`] = word;
    }
    if (troubles.length > 0) return { status: 'failed', codes: troubles, results: {} };

    const idle = Object.values(results).every((word) => word === 'unchanged' || word === 'disabled');
    const stops = [...next].some(([place, running]) => running.length < this.runningAt(place).length);
    for (const [place, wires] of desired) this.#desired.set(keyOf(place), wires);
    for (const [place, running] of next) this.#running.set(keyOf(place), running);
    for (const key of absentees(command, results)) results[key] = 'unchanged';
    return { status: idle && !stops ? 'unchanged' : 'applied', codes: [], results };
  }

  /** A probe packet has passed the chain at a place: each program has added itself to the trail and recorded it. */
  probed(place: Place): void {
    let path = 0n;
    for (const { code, maps } of this.runningAt(place)) {
      if (!code.leavesTrail) continue;
      path = BigInt.asUintN(64, (path << 8n) | ((valueIn(maps, 'mark_id', 0n) ?? 0n) & 0xffn));
      set(maps, 'mark_seen', 0n, (valueIn(maps, 'mark_seen', 0n) ?? 0n) + 1n);
      set(maps, 'mark_paths', path, (valueIn(maps, 'mark_paths', path) ?? 0n) + 1n);
    }
  }

  /** A program's maps are lost with its pins: its own entries are gone, and its `map_args` are written again. */
  forgotten(place: Place, name: string): void {
    const running = this.runningAt(place).map((program) =>
      program.wire.name === name ? started(program.wire, program.code, undefined) : program,
    );
    this.#running.set(keyOf(place), running);
  }

  #conflicts({ verb, programs }: ModelCommand): string[] {
    if (verb !== 'add') return [];
    return programs.flatMap(({ place, wires }) => {
      const present = this.desiredAt(place);
      return wires.flatMap((wire) => {
        const namesake = present.find(({ name }) => name === wire.name);
        if (namesake !== undefined) return sameWire(namesake, wire) ? [] : ['NAME_CONFLICT'];
        return present.some(({ seq_id: taken }) => taken === wire.seq_id) ? ['SEQ_ID_TAKEN'] : [];
      });
    });
  }

  #after({ verb, programs, names }: ModelCommand, place: Place): readonly Wire[] {
    const given = programs.filter((entry) => keyOf(entry.place) === keyOf(place)).flatMap(({ wires }) => wires);
    const present = this.desiredAt(place);
    if (verb === 'deploy') return bySeqId(given);
    if (verb === 'add') {
      return bySeqId([...present, ...given.filter((wire) => !present.some(({ name }) => name === wire.name))]);
    }
    const gone = names.filter((entry) => keyOf(entry.place) === keyOf(place)).flatMap((entry) => entry.names);
    return present.filter(({ name }) => !gone.includes(name));
  }

  #words(place: Place, wires: readonly Wire[], { changed }: Outcome): [string, string][] {
    const before = this.runningAt(place);
    const asked = wires.map((wire): [string, string] => {
      const tag = `${wire.name}@${wire.version}`;
      if (wire.admin_status === 'disabled') return [tag, 'disabled'];
      const old = before.find((program) => program.wire.name === wire.name);
      if (old === undefined) return [tag, 'started'];
      if (identityOf(old.wire) !== identityOf(wire) || changed.has(wire.name)) return [tag, 'updated'];
      return [tag, old.wire.seq_id === wire.seq_id ? 'unchanged' : 'moved'];
    });
    const stopped = before
      .filter(({ wire }) => !wires.some(({ name }) => name === wire.name))
      .map(({ wire }): [string, string] => [`${wire.name}@${wire.version}`, 'stopped']);
    const dropped = this.desiredAt(place)
      .filter(({ name, admin_status: status }) => status === 'disabled' && !wires.some((wire) => wire.name === name))
      .map((wire): [string, string] => [`${wire.name}@${wire.version}`, 'stopped']);
    return [...asked, ...stopped, ...dropped];
  }
}

export function keyOf({ iface, list }: Place): string {
  return `${iface}/${list}`;
}

/** Whether a program is desired behind one that has no slot for it. */
function endsTooEarly(wires: readonly Wire[]): boolean {
  const enabled = wires.filter(({ admin_status: status }) => status === 'enabled');
  return enabled.slice(0, -1).some(({ map_name: slot }) => slot === '');
}

interface Outcome {
  readonly running: readonly Running[];
  /** Names of the programs for which entries of existing maps change. */
  readonly changed: ReadonlySet<string>;
  readonly trouble: readonly string[];
}

/** The running programs at a place after `wires` are applied. */
function advance(before: readonly Running[], wires: readonly Wire[], list: List): Outcome {
  const changed = new Set<string>();
  const trouble: string[] = [];
  const enabled = wires.filter(({ admin_status: status }) => status === 'enabled');
  const running = enabled.map((wire) => {
    const code = codeOf(list, wire);
    if (wire.map_args.some(({ name }) => code.maps[name] === undefined)) trouble.push('MAP_NOT_FOUND');
    const same = before.find((program) => identityOf(program.wire) === identityOf(wire));
    const former = before.find((program) => program.wire.name === wire.name);
    const carried = same === undefined && former !== undefined ? (wire.carry_maps ?? []) : [];
    if (carried.some((map) => former?.code.maps[map] === undefined || code.maps[map] === undefined)) {
      trouble.push('MAP_NOT_FOUND');
    }
    const heir = same ?? (carried.length > 0 ? former : undefined);
    const kept = heir && { from: heir, maps: same === undefined ? carried : Object.keys(heir.code.maps) };
    const program = started(wire, code, kept);
    if (same !== undefined && !sameEntries(argsOf(same.wire), argsOf(wire))) changed.add(wire.name);
    return program;
  });
  return { running, changed, trouble };
}

/** A program with its `map_args` written, with new maps except for those that it takes over. */
function started(
  wire: Wire,
  code: Code,
  kept: { readonly from: Running; readonly maps: readonly string[] } | undefined,
): Running {
  const maps = new Map<string, Map<bigint, bigint | undefined>>();
  for (const name of kept?.maps ?? []) maps.set(name, new Map(kept?.from.maps.get(name)));
  const wanted = argsOf(wire);
  const given = kept === undefined ? new Map() : argsOf(kept.from.wire);
  for (const name of kept?.maps ?? []) {
    // Only differences to the last `map_args` are written, since a program may have changed other entries itself.
    for (const [key, value] of wanted.get(name) ?? []) {
      if (given.get(name)?.get(key) !== value) set(maps, name, key, value);
    }
    if (code.maps[name] !== 'hash') continue;
    for (const key of given.get(name)?.keys() ?? []) {
      if (wanted.get(name)?.has(key) !== true) set(maps, name, key, undefined);
    }
  }
  for (const [name, entries] of wanted) {
    if (kept?.maps.includes(name) === true) continue;
    for (const [key, value] of entries) set(maps, name, key, value);
  }
  return { wire, code, maps };
}

/** Fields whose change is an update, even within one version. */
export function identityOf(wire: Wire): string {
  const { name, version, artifact, ebpf_package_repo_url: url, object_file: object } = wire;
  return JSON.stringify([name, version, artifact, url, object, wire.entry_function_name, wire.map_name]);
}

type Entries = ReadonlyMap<string, ReadonlyMap<bigint, bigint>>;

function argsOf({ map_args: mapArgs }: Wire): Entries {
  return new Map(
    mapArgs.map(({ name, args }) => [
      name,
      new Map(args.map(({ key, value }) => [BigInt(String(key)), BigInt(String(value))])),
    ]),
  );
}

/**
 * Whether a map stays unchanged. Arrays keep entries that are no longer listed, so a removed key changes only hashes.
 */
function sameEntries(one: Entries, other: Entries): boolean {
  const names = new Set([...one.keys(), ...other.keys()]);
  return [...names].every((name) => {
    const [before, after] = [one.get(name) ?? new Map(), other.get(name) ?? new Map()];
    const rewritten = [...after].some(([key, value]) => before.get(key) !== value);
    const removed = name === 'mark_paths' && [...before.keys()].some((key) => !after.has(key));
    return !rewritten && !removed;
  });
}

function set(maps: Running['maps'], name: string, key: bigint, value: bigint | undefined): void {
  const entries = maps.get(name) ?? new Map<bigint, bigint | undefined>();
  entries.set(key, value);
  maps.set(name, entries);
}

function valueIn(maps: Running['maps'], name: string, key: bigint): bigint | undefined {
  return maps.get(name)?.get(key);
}

function bySeqId(wires: readonly Wire[]): Wire[] {
  return wires.toSorted((a, b) => a.seq_id - b.seq_id);
}

/** Whether all fields are equal, in any order. Fields with Go's zero value count as absent. */
function sameWire(one: Wire, other: Wire): boolean {
  const told = (wire: Wire) =>
    JSON.stringify(
      Object.entries(wire)
        .filter(([, value]) => !(Array.isArray(value) && value.length === 0))
        .toSorted(([a], [b]) => (a < b ? -1 : 1)),
    );
  return told(one) === told(other);
}

/** Programs in a delete that neither run nor stop. The answer lists them too. */
function absentees({ verb, names }: ModelCommand, results: Readonly<Record<string, string>>): string[] {
  if (verb !== 'delete') return [];
  return names.flatMap(({ place, names: list }) =>
    list
      .filter((name) => !Object.keys(results).some((key) => key.startsWith(`${keyOf(place)}/${name}@`)))
      .map((name) => `${keyOf(place)}/${name}@`),
  );
}
