import { access, constants, mkdir, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { AgentError } from '../errors.js';

export interface StateDirLock {
  release(): Promise<void>;
}

/**
 * Makes a state directory if it is absent, and takes it for this process.
 *
 * @throws AgentError CONFIG_INVALID when it cannot be made or written, STATE_DIR_LOCKED
 */
export async function takeStateDir(dir: string): Promise<StateDirLock> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await access(dir, constants.W_OK);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AgentError('CONFIG_INVALID', `Cannot use the state directory (${why}); choose another with state_dir`, {
      cause,
    });
  }
  return lockStateDir(dir);
}

/**
 * Takes a folder on a bpffs for this process, as {@link lockStateDir} does a state directory.
 *
 * @throws AgentError STATE_DIR_LOCKED
 */
export function lockBpffs(dir: string): Promise<StateDirLock> {
  return lockDir(dir, 'bpffs');
}

/**
 * Takes a directory for this process, so that two agents never write one journal. Node has no flock(2); what is held instead is
 * the name of an abstract Unix socket (unix(7)), which the kernel gives to one holder and takes back when the process ends, however it
 * ends. The name is made of device and inode, which stay the same through symbolic links and bind mounts. Abstract names belong to
 * the network namespace: agents in different ones do not see each other's.
 *
 * @param dir exists
 * @throws AgentError STATE_DIR_LOCKED
 */
export function lockStateDir(dir: string): Promise<StateDirLock> {
  return lockDir(dir, 'state directory');
}

async function lockDir(dir: string, what: 'state directory' | 'bpffs'): Promise<StateDirLock> {
  const { dev, ino } = await stat(dir, { bigint: true });
  // Nobody has business with this socket; whoever connects is sent away.
  const server = createServer((socket) => socket.destroy());
  await hold(server, `\0l3af-agent:${dev}:${ino}`, `the ${what} ${dir}`);
  // The lock is to last as long as the process, not to prolong it.
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** @param place what the lock is for, in words */
function hold(server: Server, name: string, place: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Not once: an error event without a listener, such as a later failure to accept, would end the process.
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const message =
        cause.code === 'EADDRINUSE'
          ? `Another agent runs with ${place}; stop it, or give this one a place of its own`
          : `Cannot lock ${place}: ${cause.message}`;
      reject(new AgentError(cause.code === 'EADDRINUSE' ? 'STATE_DIR_LOCKED' : 'INTERNAL', message, { cause }));
    });
    server.listen(name, resolve);
  });
}
