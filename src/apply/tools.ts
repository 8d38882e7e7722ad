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
  /** @param loading where there is no program yet, but the companion is to load it */
  start(launch: CompanionLaunch, maps: readonly number[], restarts: number, loading?: Loading): Promise<void>;
  /** @param loaded directory of the generation whose program it has loaded; absent for one that came to a program that was there */
  stop(companion: CompanionRef, loaded?: string): Promise<void>;
  update(from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Promise<void>;
  status(companion: CompanionRef, loaded?: string): Promise<'running' | 'not running' | undefined>;
}

/** What a companion is given that loads its program itself. */
export interface Loading {
  /** Directory of the generation that this becomes. */
  readonly dir: string;
  /** Pin of the slot that it is to put its program into. */
  readonly slot: string;
  /** Whether it has. */
  isFilled(): Promise<boolean>;
}

/** The package cache, as far as steps need it. */
export interface Packages {
  /** Has the package unpacked on disk, fetching it where needed. */
  ensure(ref: PackageRef): Promise<unknown>;
  /** Path of an object file in a package. */
  objectPath(ref: PackageRef, objectFile: string): Promise<string>;
}
