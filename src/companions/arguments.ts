import type { CompanionLaunch } from '../domain/companion.js';
import { versionSegment } from '../domain/pins.js';
import type { CompanionArgs } from '../domain/program.js';

/*
 * The command lines of companions, as l3afd has them (StartUserProgram, UpdateArgs, Stop and isRunning in its bpfprogs/bpf.go), but for
 * `--key =value`, which it writes for stop and status and no option parser takes.
 */

export interface Surroundings {
  /** Where companions may write logs of their own, '' for nowhere. */
  readonly logDir: string;
  /** Path of the rules file, '' for none. */
  readonly rulesFile: string;
  /** Pin of the slot that a companion is to put its program into, '' for one that loads none. */
  readonly slot: string;
}

export function startArguments(launch: CompanionLaunch, { logDir, rulesFile, slot }: Surroundings): string[] {
  return [
    ...hookArguments(launch),
    versionArgument(launch),
    ...(slot === '' ? [] : [`--map-name=${slot}`]),
    ...(logDir === '' ? [] : [`--log-dir=${logDir}`]),
    ...(rulesFile === '' ? [] : [`--rules-file=${rulesFile}`]),
    ...options(launch.companion.startArgs),
  ];
}

export function updateArguments(launch: CompanionLaunch, { logDir }: Pick<Surroundings, 'logDir'>): string[] {
  return [
    ...hookArguments(launch),
    '--cmd=update',
    versionArgument(launch),
    ...(logDir === '' ? [] : [`--log-dir=${logDir}`]),
    ...options(launch.companion.updateArgs),
  ];
}

export function configArguments(launch: CompanionLaunch): string[] {
  return [...hookArguments(launch), versionArgument(launch), ...options(launch.companion.configArgs)];
}

export function stopArguments(launch: CompanionLaunch): string[] {
  return [...hookArguments(launch), ...options(launch.companion.stopArgs)];
}

/** Nothing but what the payload says: status commands know no other options. */
export function statusArguments(launch: CompanionLaunch): string[] {
  return options(launch.companion.statusArgs);
}

/** None of a probe's. */
export function hookArguments({ hook }: Pick<CompanionLaunch, 'hook'>): string[] {
  if (hook.direction === '') return [];
  return [`--iface=${hook.iface}`, `--direction=${hook.direction}`];
}

/** With underscores for dots, as in the paths of the maps. */
export function versionArgument(launch: CompanionLaunch): string {
  return `--version=${versionSegment(launch.package.version)}`;
}

function options(args: CompanionArgs): string[] {
  return Object.entries(args).map(([key, value]) => `--${key}=${value}`);
}
