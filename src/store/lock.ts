import { access, constants, mkdir, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { AgentError, machineFaultOf, messageOf } from '../errors.js';

export interface StateDirLock {
  release(): Promise<void>;
}

/**
 * Makes a state directory if it does not exist, and locks it for this process.
 *
 * @throws AgentError CONFIG_INVALID if it cannot be made or written, STATE_DIR_LOCKED if another process holds the lock
 */
export async function takeStateDir(dir: string): Promise<StateDirLock> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await access(dir, constants.W_OK);
  } catch (cause) {
    const why = messageOf(cause);
    throw new AgentError('CONFIG_INVALID', `Cannot use the state directory (${why}); choose another with state_dir`, {
      cause,
    });
  }
  return lockStateDir(dir);
}

/**
 * Locks a folder on a bpffs for this process, like {@link lockStateDir} for a state directory.
 *
 * @throws AgentError STATE_DIR_LOCKED
 */
export function lockBpffs(dir: string): Promise<StateDirLock> {
  return lockDir(dir, 'bpffs');
}

/**
 * Locks a directory for this process, so that two agents never write one journal. Node has no flock(2). The lock is the
 * name of an abstract Unix socket (unix(7)) instead: the kernel gives it to one holder and releases it when the process
 * ends, even after a crash. The name consists of device and inode, which are the same through symbolic links and bind
 * mounts. Abstract names belong to the network namespace, so agents in different namespaces do not see each other's
 * locks.
 *
 * @param dir an existing directory
 * @throws AgentError STATE_DIR_LOCKED
 */
export function lockStateDir(dir: string): Promise<StateDirLock> {
  return lockDir(dir, 'state directory');
}

async function lockDir(dir: string, what: 'state directory' | 'bpffs'): Promise<StateDirLock> {
  const { dev, ino } = await stat(dir, { bigint: true });
  // The socket has no service. Connections are closed at once.
  const server = createServer((socket) => socket.destroy());
  await hold(server, `\0l3af-agent:${dev}:${ino}`, `the ${what} ${dir}`);
  // The lock must not keep the process alive.
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** @param place description of what is locked */
function hold(server: Server, name: string, place: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Use on(), not once(): a later error event without a listener, such as a failed accept, would end the process.
    server.on('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EADDRINUSE') {
        const message = `Another agent already uses ${place}; stop it, or configure a different one for this agent`;
        return reject(new AgentError('STATE_DIR_LOCKED', message, { cause }));
      }
      const { code = 'INTERNAL', advice } = machineFaultOf(cause) ?? {};
      const message = `Cannot lock ${place}: ${cause.message}${advice === undefined ? '' : `; ${advice}`}`;
      reject(new AgentError(code, message, { cause }));
    });
    server.listen(name, resolve);
  });
}
