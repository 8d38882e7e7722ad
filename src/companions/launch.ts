import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { AgentError, messageOf } from '../errors.js';

/** What to start, and with which limits. */
export interface LaunchRequest {
  /** Absolute path of the program. Its folder becomes the working directory. */
  readonly program: string;
  readonly args: readonly string[];
  /** Id of the companion, in the environment of all its processes. */
  readonly id: string;
  /** Name of a command other than `cmd_start`, such as `update`. These do not outlive the agent. */
  readonly command?: string;
  /** Folder of its control group, '' for none. */
  readonly cgroup: string;
  /** In bytes, 0 for no limit. Not needed if the control group limits memory. */
  readonly addressSpace: number;
  /** Seconds of CPU time, 0 for no limit. */
  readonly cpuSeconds: number;
  /** Descriptors or 'pipe' for standard output and error. */
  readonly output: readonly [number | 'pipe', number | 'pipe'];
}

/** Environment variable with the id of the companion. */
export const ID_VARIABLE = 'L3AF_COMPANION';
/** Environment variable that is set for commands such as `cmd_update`. */
export const COMMAND_VARIABLE = 'L3AF_COMMAND';

/**
 * Joins the control group and sets the limits, then executes the program in the same process. A limit that is set from
 * outside comes too late for children that were forked before. `ulimit` takes KiB and seconds, see dash(1).
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
 * Starts a program as the leader of its own session and process group. It inherits neither the agent's environment nor
 * its descriptors.
 *
 * @throws AgentError COMPANION_FAILED if no process could be made. A program that cannot be executed ends with status
 *   126 or 127
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
    // The error names the shell, but it is the working directory that does not exist.
    const gone = await access(folder).then(
      () => false,
      () => true,
    );
    const why = gone ? `the folder of its package, ${folder}, is gone` : 'the system cannot make a process';
    const detail = messageOf(cause);
    throw new AgentError('COMPANION_FAILED', `${basename(program)} cannot be started: ${why}`, { cause, detail });
  }
  return child as ChildProcess & { readonly pid: number };
}
