import { createHash } from 'node:crypto';

/**
 * A number or its text as a payload gives it. Integers beyond 2^53, byte strings (`0x…`), IPv4, IPv6 and MAC addresses
 * come as strings.
 */
export type MapScalar = number | string;

/** The entries that a payload wants in one map of a program (`map_args`). */
export interface MapArgs {
  readonly name: string;
  readonly args: readonly { readonly key: MapScalar; readonly value: MapScalar }[];
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
  /** File name of the `.bpf.o` in the package. */
  readonly objectFile: string;
  readonly entryFunction: string;
  /** The program's slot: the one-entry PROG_ARRAY that names its successor; '' where the program has none. */
  readonly mapName: string;
  /** False for `admin_status: disabled`: desired, but not running. */
  readonly enabled: boolean;
  readonly mapArgs: readonly MapArgs[];
  /** Maps that a new version takes over from the one it replaces, with all that is in them. */
  readonly carryMaps: readonly string[];
  /** Where in its payload it stood (`0.bpf_programs.xdp_ingress.2`), so that a later fault can be pointed at. */
  readonly path: string;
  /** The program word for word as it came, for the snapshot. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What has to be fetched for a program: one artifact of one version in one repository. */
export type PackageRef = Pick<Program, 'name' | 'version' | 'artifact' | 'repoUrl'>;

/**
 * Names the code that a program stands for: two programs with the same digest run the same code. It is part of the pin path,
 * so that what runs can be read off bpffs and need not be remembered. Map arguments, position and status are not part of it:
 * they change without a reload.
 *
 * @returns 16 lower-case hexadecimal digits
 */
export function contentDigest(
  program: Pick<Program, 'name' | 'version' | 'artifact' | 'repoUrl' | 'objectFile' | 'entryFunction' | 'mapName'>,
): string {
  const { name, version, artifact, repoUrl, objectFile, entryFunction, mapName } = program;
  const identity = JSON.stringify([name, version, artifact, repoUrl, objectFile, entryFunction, mapName]);
  return createHash('sha256').update(identity).digest('hex').slice(0, 16);
}
