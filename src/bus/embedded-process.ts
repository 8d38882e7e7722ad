import { readlink, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { commandLineOf } from './process-state.js';

/**
 * How a process relates to a state directory: it is the nats-server of this directory, or it is that server but in
 * another network namespace, or it is a foreign process.
 */
export type ServerProcess = 'ours' | 'out of reach' | 'foreign';

/**
 * Finds out how a process id relates to a state directory. Process ids are reused, and the directory may come from
 * another machine, container or namespace. What counts is therefore the file that the process was started with, not its
 * path: the same path may be another file in a container, and the same file may have another path there.
 *
 * @param config the server's configuration as this process sees it
 */
export async function serverProcess(pid: number, binary: string, config: string): Promise<ServerProcess> {
  const [program = '', flag, path, ...others] = await commandLineOf(pid);
  if (basename(program) !== binary || flag !== '-c' || path === undefined || others.length > 0) return 'foreign';
  const [its, ours] = [await fileAt(join(`/proc/${pid}/root`, path)), await fileAt(config)];
  // If that file cannot be read, the arguments are compared.
  if (its === 'hidden' ? path !== config : its === undefined || its !== ours) return 'foreign';
  const [itsNetwork, ourNetwork] = [await networkOf(pid), await networkOf('self')];
  return itsNetwork === undefined || itsNetwork === ourNetwork ? 'ours' : 'out of reach';
}

async function fileAt(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES' ? 'hidden' : undefined;
  }
}

function networkOf(pid: number | 'self'): Promise<string | undefined> {
  return readlink(`/proc/${pid}/ns/net`).catch(() => undefined);
}
