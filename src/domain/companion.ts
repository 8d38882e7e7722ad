import { type Hook, hookKey } from './hook.js';
import type { Companion, CompanionArgs, PackageRef } from './program.js';

/** Everything needed to start a program's companion, and later to stop it or to start it again. */
export interface CompanionLaunch {
  readonly hook: Hook;
  /** The program has the same name. */
  readonly package: PackageRef;
  readonly companion: Companion;
}

/** States of companions: as observed, or as the watch sets them for companions that do not run. */
export const COMPANION_STATES = ['running', 'done', 'ended', 'waiting', 'given-up'] as const;

/** A companion as it is observed. */
export interface ObservedCompanion {
  readonly launch: CompanionLaunch;
  /** `done`: it had to run once and has done so. `ended`: it should run and does not. */
  readonly state: 'running' | 'done' | 'ended';
  /** Undefined if it does not run. */
  readonly pid: number | undefined;
  /**
   * Kernel ids of its program's maps at its start, ascending. It holds these maps, even if its program now has others.
   */
  readonly maps: readonly number[];
  /** How often it was started again because it had ended. */
  readonly restarts: number;
  /** Directory of the program that it has loaded itself; absent if it loads none. */
  readonly loaded?: string;
}

/** The part of a {@link CompanionLaunch} that identifies the companion: there is one for each program at each hook. */
export interface CompanionRef {
  readonly hook: Hook;
  readonly package: Pick<PackageRef, 'name'>;
}

/** A key that identifies a companion. */
export function companionKey(companion: CompanionRef): string {
  return `${hookKey(companion.hook)}/${companion.package.name}`;
}

/** Whether a companion is in its correct state: a daemon runs, any other command has finished. */
export function isAsItShould({ launch, state }: Pick<ObservedCompanion, 'launch' | 'state'>): boolean {
  const { daemon, cmdStart } = launch.companion;
  return state === (daemon && cmdStart !== '' ? 'running' : 'done');
}

/**
 * Whether a companion that was started as `a` needs no new start for `b`. The two may differ in commands other than
 * `cmd_start`.
 */
export function startsAlike(a: CompanionLaunch, b: CompanionLaunch): boolean {
  return startIdentity(a) === startIdentity(b);
}

/**
 * Whether a companion that was started as `a` was told the same as `b` says: the command, its arguments and its rules.
 * They decide what it puts into the maps of its program.
 */
export function toldAlike({ companion: a }: CompanionLaunch, { companion: b }: CompanionLaunch): boolean {
  const told = ({ cmdStart, startArgs, rulesFile, rules }: Companion) => [
    cmdStart,
    sorted(startArgs),
    rulesFile,
    rules,
  ];
  return equal(told(a), told(b));
}

/** Whether `a` and `b` are equal. */
export function sameLaunch(a: CompanionLaunch, b: CompanionLaunch): boolean {
  return startsAlike(a, b) && commandsIdentity(a) === commandsIdentity(b);
}

/** Whether a change from `a` to `b` requires `cmd_update`. */
export function wantsUpdate(a: CompanionLaunch, b: CompanionLaunch): boolean {
  const [before, after] = [a, b].map(({ companion }) => [companion.cmdUpdate, sorted(companion.updateArgs)]);
  return b.companion.cmdUpdate !== '' && !equal(before, after);
}

/** Whether a change from `a` to `b` requires `cmd_config`. */
export function wantsConfig(a: CompanionLaunch, b: CompanionLaunch): boolean {
  const [before, after] = [a, b].map(({ companion }) => [companion.cmdConfig, sorted(companion.configArgs)]);
  return b.companion.cmdConfig !== '' && !equal(before, after);
}

function startIdentity({ hook, package: ref, companion }: CompanionLaunch): string {
  const { cmdStart, startArgs, daemon, cpuSeconds, memoryBytes, rulesFile, rules } = companion;
  const code = [hookKey(hook), ref.name, ref.version, ref.artifact, ref.repoUrl, ref.sha256, cmdStart, daemon];
  return JSON.stringify([...code, sorted(startArgs), cpuSeconds, memoryBytes, rulesFile, rules]);
}

function commandsIdentity({ companion }: CompanionLaunch): string {
  const { cmdStop, stopArgs, cmdStatus, statusArgs, cmdUpdate, updateArgs, cmdConfig, configArgs } = companion;
  const commands = [cmdStop, cmdStatus, cmdUpdate, cmdConfig];
  return JSON.stringify([...commands, ...[stopArgs, statusArgs, updateArgs, configArgs].map(sorted)]);
}

function equal(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function sorted(args: CompanionArgs): [string, string][] {
  return Object.entries(args).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
