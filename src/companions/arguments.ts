import type { CompanionLaunch } from '../domain/companion.js';
import { isTracing, targetName } from '../domain/hook.js';
import { versionSegment } from '../domain/pins.js';
import type { CompanionArgs } from '../domain/program.js';

/*
 * The command lines of companions are those of l3afd (StartUserProgram, UpdateArgs, Stop and isRunning in its
 * bpfprogs/bpf.go). One thing differs: for stop and status, l3afd writes `--key =value`, which no option parser
 * accepts.
 */

/** Paths in command lines. */
export interface ArgumentPaths {
  /** Folder for the companions' own logs, '' for none. */
  readonly logDir: string;
  /** Path of the rules file, '' for none. */
  readonly rulesFile: string;
  /** Pin of the slot for the program that the companion loads, '' if it loads none. */
  readonly slot: string;
}

export function startArguments(launch: CompanionLaunch, { logDir, rulesFile, slot }: ArgumentPaths): string[] {
  return [
    ...hookArguments(launch),
    versionArgument(launch),
    ...(slot === '' ? [] : [`--map-name=${slot}`]),
    ...(logDir === '' ? [] : [`--log-dir=${logDir}`]),
    ...(rulesFile === '' ? [] : [`--rules-file=${rulesFile}`]),
    ...options(launch.companion.startArgs),
  ];
}

export function updateArguments(launch: CompanionLaunch, { logDir }: Pick<ArgumentPaths, 'logDir'>): string[] {
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

/** Only the options in the payload, since status commands know no others. */
export function statusArguments(launch: CompanionLaunch): string[] {
  return options(launch.companion.statusArgs);
}

/** Empty for a tracing program, which has neither interface nor direction. */
export function hookArguments({ hook }: Pick<CompanionLaunch, 'hook'>): string[] {
  if (isTracing(hook)) return [];
  return [`--${'cgroup' in hook ? 'cgroup' : 'iface'}=${targetName(hook)}`, `--direction=${hook.direction}`];
}

/** With underscores for dots, as in the paths of the maps. */
export function versionArgument(launch: CompanionLaunch): string {
  return `--version=${versionSegment(launch.package.version)}`;
}

function options(args: CompanionArgs): string[] {
  return Object.entries(args).map(([key, value]) => `--${key}=${value}`);
}
