import { createHash } from 'node:crypto';
import type { Aggregator } from './aggregate.js';

/**
 * A key or value of a map as a payload gives it. Integers beyond 2^53, byte strings (`0x…`), IPv4, IPv6 and MAC addresses
 * come as strings; structs as objects by field name, arrays as lists.
 */
export type MapValue = number | string | boolean | readonly MapValue[] | { readonly [field: string]: MapValue };

/** The entries that a payload wants in one map of a program (`map_args`). */
export interface MapArgs {
  readonly name: string;
  readonly args: readonly { readonly key: MapValue; readonly value: MapValue }[];
}

/** What a payload wants to be read of one map of a program, again and again (`monitor_maps`). */
export interface MonitoredMap {
  readonly name: string;
  /** `*` for every key that is there. */
  readonly key: MapValue;
  readonly aggregator: Aggregator;
  /** The number within a value that is a struct or an array: names and indices, joined by dots; '' for the value itself. */
  readonly field: string;
  /** Further labels of its series. */
  readonly labels: Readonly<Record<string, string>>;
}

/** Options of a companion's command: `--key=value`. */
export type CompanionArgs = Readonly<Record<string, string>>;

/**
 * The user-space program of a package, as a payload asks for it. Commands are file names in the package, '' where there is none, each with the
 * options that the payload gives it.
 */
export interface Companion {
  readonly cmdStart: string;
  readonly startArgs: CompanionArgs;
  /** True for one that keeps running, false for one that runs to its end at the start. */
  readonly daemon: boolean;
  readonly cmdStop: string;
  readonly stopArgs: CompanionArgs;
  /** Prints `RUNNING`. */
  readonly cmdStatus: string;
  readonly statusArgs: CompanionArgs;
  /** Takes new values while it runs. */
  readonly cmdUpdate: string;
  readonly updateArgs: CompanionArgs;
  readonly cmdConfig: string;
  readonly configArgs: CompanionArgs;
  /** CPU time that each of its processes may use up, 0 for any. */
  readonly cpuSeconds: number;
  /** 0 for any. */
  readonly memoryBytes: number;
  /** Name of the file that `rules` are written to; '' for no rules. */
  readonly rulesFile: string;
  readonly rules: string;
}

/** A program as a command asks for it. */
export interface Program {
  readonly name: string;
  readonly version: string;
  /** Position in the chain; unique within it, not necessarily contiguous. */
  readonly seqId: number;
  readonly artifact: string;
  /** The package repository, or '' for the agent's own. */
  readonly repoUrl: string;
  /** SHA-256 that the artifact has to have, in lower-case hexadecimal. */
  readonly sha256?: string;
  /** File name of the `.bpf.o` in the package; '' where the program's companion loads it itself, see {@link isSelfLoaded}. */
  readonly objectFile: string;
  readonly entryFunction: string;
  /** The program's slot: the one-entry PROG_ARRAY that names its successor; '' where the program has none. */
  readonly mapName: string;
  /** False for `admin_status: disabled`: desired, but not running. */
  readonly enabled: boolean;
  readonly mapArgs: readonly MapArgs[];
  /** Absent for none. */
  readonly monitors?: readonly MonitoredMap[];
  /** Maps that a new version takes over from the one it replaces, with all that is in them. */
  readonly carryMaps: readonly string[];
  /** Absent where the payload names no command to run. */
  readonly companion?: Companion;
  /** Where in its payload it stood (`0.bpf_programs.xdp_ingress.2`), so that a later fault can be pointed at. */
  readonly path: string;
  /** The program word for word as it came, for the snapshot. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What has to be fetched for a program: one artifact of one version in one repository. */
export type PackageRef = Pick<Program, 'name' | 'version' | 'artifact' | 'repoUrl' | 'sha256'>;

/** Whether there is no object file to load, so that the program's companion loads it and puts it into a slot that it is given. */
export function isSelfLoaded({ objectFile }: Pick<Program, 'objectFile'>): boolean {
  return objectFile === '';
}

/** The package of a program, and nothing else of it. */
export function packageOf({ name, version, artifact, repoUrl, sha256 }: PackageRef): PackageRef {
  return { name, version, artifact, repoUrl, ...(sha256 !== undefined && { sha256 }) };
}

/**
 * Names the code that a program stands for: two programs with the same digest run the same code. It is part of the pin path,
 * so that what runs can be read off bpffs and need not be remembered. Map arguments, position and status are not part of it:
 * they change without a reload.
 *
 * @returns 16 lower-case hexadecimal digits
 */
export function contentDigest(program: PackageRef & Pick<Program, 'objectFile' | 'entryFunction' | 'mapName'>): string {
  const { name, version, artifact, repoUrl, sha256, objectFile, entryFunction, mapName } = program;
  const identity = JSON.stringify([name, version, artifact, repoUrl, sha256, objectFile, entryFunction, mapName]);
  return createHash('sha256').update(identity).digest('hex').slice(0, 16);
}
