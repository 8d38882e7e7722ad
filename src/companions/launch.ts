import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { AgentError } from '../errors.js';

/** What is started, and within which bounds. */
export interface LaunchRequest {
  /** Absolute path of the program; its folder is the working directory. */
  readonly program: string;
  readonly args: readonly string[];
  /** Names the companion in the environment of everything that is started for it. */
  readonly id: string;
  /** Of a command beside the companion itself: `update`; such ones do not outlive the agent. */
  readonly command?: string;
  /** Folder of its control group, '' for none. */
  readonly cgroup: string;
  /** In bytes, 0 for no limit. Where the control group sees to it, none is needed here. */
  readonly addressSpace: number;
  /** Seconds of CPU time, 0 for no limit. */
  readonly cpuSeconds: number;
  /** Descriptors or 'pipe' for standard output and error. */
  readonly output: readonly [number | 'pipe', number | 'pipe'];
}

/** Names the companion in the environment of its processes. */
export const ID_VARIABLE = 'L3AF_COMPANION';
/** Set for commands such as `cmd_update`. */
export const COMMAND_VARIABLE = 'L3AF_COMMAND';

/**
 * Joins the control group and takes the limits before the program is there: a limit that is set from outside comes too late for what was
 * forked before. The process stays the same one. `ulimit` takes KiB and seconds, see dash(1).
 */
const PREPARE = [
  '[ -z "$1" ] || echo 0 >"$1/cgroup.procs" || exit 125',
  '[ "$2" = 0 ] || ulimit -v "$2" || exit 125',
  '[ "$3" = 0 ] || ulimit -t "$3" || exit 125',
  'shift 3',
  'exec "$@"',
].join('\n');

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Starts a program as the leader of a session and so of a process group of its own, with nothing of the agent's environment and none of its
 * descriptors.
 *
 * @throws AgentError COMPANION_FAILED if no process could be made; that the program cannot be run shows in exit status 126 or 127
 */
export async function launch(request: LaunchRequest): Promise<ChildProcess & { readonly pid: number }> {
  const { program, args, id, command, cgroup, addressSpace, cpuSeconds, output } = request;
  const limits = [cgroup, String(Math.ceil(addressSpace / 1024)), String(cpuSeconds)];
  const folder = dirname(program);
  const child = spawn('/bin/sh', ['-c', PREPARE, 'sh', ...limits, program, ...args], {
    cwd: folder,
    detached: true,
    env: { PATH, LANG: 'C.UTF-8', [ID_VARIABLE]: id, ...(command !== undefined && { [COMMAND_VARIABLE]: command }) },
    stdio: ['ignore', ...output],
  });
  try {
    await once(child, 'spawn');
  } catch (cause) {
    // It is the working directory that the system misses, though it names the shell.
    const gone = await access(folder).then(
      () => false,
      () => true,
    );
    const why = gone ? `the folder of its package, ${folder}, is gone` : 'the system cannot make a process';
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new AgentError('COMPANION_FAILED', `${basename(program)} cannot be started: ${why}`, { cause, detail });
  }
  return child as ChildProcess & { readonly pid: number };
}
