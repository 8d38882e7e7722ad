import type { Datapath } from '../datapath/datapath.js';
import type { CompanionLaunch, CompanionRef, ObservedCompanion } from '../domain/companion.js';
import type { PackageRef } from '../domain/program.js';

/** What steps act through. */
export interface Tools {
  readonly datapath: Datapath;
  readonly packages: Packages;
  readonly companions: Companions;
}

/** The companions of programs, as far as steps and plans need them. */
export interface Companions {
  observe(): Promise<readonly ObservedCompanion[]>;
  check(launch: CompanionLaunch): Promise<void>;
  start(launch: CompanionLaunch, maps: readonly number[], restarts: number): Promise<void>;
  stop(companion: CompanionRef): Promise<void>;
  update(from: CompanionLaunch, to: CompanionLaunch): Promise<void>;
  status(companion: CompanionRef): Promise<'running' | 'not running' | undefined>;
}

/** The package cache, as far as steps need it. */
export interface Packages {
  /** Has the package unpacked on disk, fetching it where needed. */
  ensure(ref: PackageRef): Promise<unknown>;
  /** Path of an object file in a package. */
  objectPath(ref: PackageRef, objectFile: string): Promise<string>;
}
