import type { Datapath } from '../datapath/datapath.js';
import type { CompanionLaunch, CompanionRef, ObservedCompanion } from '../domain/companion.js';
import type { PackageRef } from '../domain/program.js';

/** What steps use to act. */
export interface Tools {
  readonly datapath: Datapath;
  readonly packages: Packages;
  readonly companions: CompanionControl;
}

/** The companions of programs, as far as steps and plans need them. */
export interface CompanionControl {
  observe(): Promise<readonly ObservedCompanion[]>;
  check(launch: CompanionLaunch): Promise<void>;
  /** @param loading given if the companion will load the program itself; there is no program yet */
  start(launch: CompanionLaunch, maps: readonly number[], restarts: number, loading?: Loading): Promise<void>;
  /** @param loaded directory of the program that the companion has loaded; absent if it loads none */
  stop(companion: CompanionRef, loaded?: string): Promise<void>;
  update(from: CompanionLaunch, to: CompanionLaunch, loaded?: string): Promise<void>;
  status(companion: CompanionRef, loaded?: string): Promise<'running' | 'not running' | undefined>;
}

/** What a companion gets that loads its program itself. */
export interface Loading {
  /** Directory of the load that the program becomes. */
  readonly dir: string;
  /** Pin of the slot into which it puts its program. */
  readonly slot: string;
  /** Whether the companion has put a program into the slot. */
  isFilled(): Promise<boolean>;
}

/** The package cache, as far as steps need it. */
export interface Packages {
  /** Ensures that the package is unpacked on disk; fetches it if needed. */
  ensure(ref: PackageRef): Promise<unknown>;
  /** Path of an object file in a package. */
  objectPath(ref: PackageRef, objectFile: string): Promise<string>;
}
