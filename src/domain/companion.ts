import { type Hook, hookKey, type NoHook } from './hook.js';
import type { Companion, CompanionArgs, PackageRef } from './program.js';

/** Everything that it takes to start a program's companion, and later to stop it or to start it again. */
export interface CompanionLaunch {
  readonly hook: Hook | NoHook;
  /** Whose name is the program's, too. */
  readonly package: PackageRef;
  readonly companion: Companion;
}

/** How companions may be: as they are found, or what the watch over them makes of those that do not run. */
export const COMPANION_STATES = ['running', 'done', 'ended', 'waiting', 'given-up'] as const;

/** A companion as it is found. */
export interface ObservedCompanion {
  readonly launch: CompanionLaunch;
  /** `done`: it was to run once and has; `ended`: it should run and does not. */
  readonly state: 'running' | 'done' | 'ended';
  /** Undefined for one that does not run. */
  readonly pid: number | undefined;
  /** Kernel ids of its program's maps when it was started, ascending: it holds those, whatever its program has by now. */
  readonly maps: readonly number[];
  /** How often it was started again because it had ended. */
  readonly restarts: number;
  /** Directory of the generation whose program it has loaded itself; absent for one that came to a program that was there. */
  readonly loaded?: string;
}

/** As much of a {@link CompanionLaunch} as says which companion it is: there is one for each program at each hook. */
export interface CompanionRef {
  readonly hook: Hook | NoHook;
  readonly package: Pick<PackageRef, 'name'>;
}

/** The same text for the same companion. */
export function companionKey(companion: CompanionRef): string {
  return `${hookKey(companion.hook)}/${companion.package.name}`;
}

/** Whether a companion is as one of its kind should be: a daemon runs, and anything else has run. */
export function isAsItShould({ launch, state }: Pick<ObservedCompanion, 'launch' | 'state'>): boolean {
  const { daemon, cmdStart } = launch.companion;
  return state === (daemon && cmdStart !== '' ? 'running' : 'done');
}

/** Whether a companion that was started as `a` runs as `b` asks for, however they differ in other commands than `cmd_start`. */
export function startsAlike(a: CompanionLaunch, b: CompanionLaunch): boolean {
  return startIdentity(a) === startIdentity(b);
}

/** Whether `a` and `b` differ in nothing. */
export function sameLaunch(a: CompanionLaunch, b: CompanionLaunch): boolean {
  return startsAlike(a, b) && commandsIdentity(a) === commandsIdentity(b);
}

/** Whether going from `a` to `b` means to run `cmd_update`. */
export function wantsUpdate(a: CompanionLaunch, b: CompanionLaunch): boolean {
  const [before, after] = [a, b].map(({ companion }) => [companion.cmdUpdate, sorted(companion.updateArgs)]);
  return b.companion.cmdUpdate !== '' && !equal(before, after);
}

/** Whether going from `a` to `b` means to run `cmd_config`. */
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
