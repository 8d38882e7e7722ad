import { closeSync, constants as flags, fstatSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { access, constants, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { AgentError, machineFaultOf, messageOf } from '../errors.js';
import { EWOULDBLOCK, tryFlock } from './flock.js';

export interface StateDirLock {
  release(): Promise<void>;
}

/**
 * Makes a state directory if it does not exist, and locks it for this process.
 *
 * @throws AgentError CONFIG_INVALID if it cannot be made or written, or if another user has it or may write to it;
 *   STATE_DIR_LOCKED if another process holds the lock
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
  assertOurs(dir, 'state directory', 'could have the agent run what is written there');
  return lockStateDir(dir);
}

/**
 * Locks a folder on a bpffs for this process, like {@link lockStateDir} for a state directory. The lock is on a file
 * elsewhere: bpffs has no files, and a folder that is open cannot be unmounted.
 *
 * @throws AgentError CONFIG_INVALID if another user has it or may write to it; STATE_DIR_LOCKED
 */
export async function lockBpffs(dir: string): Promise<StateDirLock> {
  assertOurs(dir, 'bpffs', 'could put programs and maps in the place of ours');
  const { dev, ino } = statSync(dir, { bigint: true });
  return lock(join(makeLockFolder(), `bpffs-${dev}-${ino}`), `the bpffs ${dir}`);
}

/** Of the system; a user's own is for agents that do not run as root. It is empty after a reboot, as every bpffs is. */
function makeLockFolder(): string {
  const parent = process.geteuid?.() === 0 ? '/run' : process.env.XDG_RUNTIME_DIR || '/run';
  const folder = join(parent, 'l3af-agent');
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const message = `Cannot make the folder ${folder} for locks; make it as root, with mode 0700, for the user of the agent`;
    throw new AgentError('CONFIG_INVALID', message, { cause });
  }
  assertOurs(folder, 'folder for locks', 'could keep the agent from starting');
  return folder;
}

/**
 * Locks a directory for this process, so that two agents never write one journal. The kernel releases the lock when the
 * process ends, even after a crash. It is on a file that other users cannot open, so none of them can take it.
 *
 * @param dir an existing directory
 * @throws AgentError STATE_DIR_LOCKED
 */
export async function lockStateDir(dir: string): Promise<StateDirLock> {
  return lock(join(dir, 'lock'), `the state directory ${dir}`);
}

/** Who may write: the group and all others. */
const OTHERS_WRITE = 0o022;

/** @param danger what somebody else could do, as the end of a sentence */
function assertOurs(dir: string, what: string, danger: string): void {
  const { uid, mode } = statSync(dir);
  const own = process.geteuid?.() ?? uid;
  if (uid !== own && uid !== 0)
    throw new AgentError(
      'CONFIG_INVALID',
      `The ${what} ${dir} belongs to the user with the id ${uid}, who ${danger}; choose another one, or see what is in it and run chown -R ${own} ${dir}`,
    );
  if ((mode & OTHERS_WRITE) !== 0)
    throw new AgentError(
      'CONFIG_INVALID',
      `Other users may write to the ${what} ${dir}, and ${danger}; see what is in it and run chmod go-w ${dir}`,
    );
}

/** @param place description of what is locked */
function lock(path: string, place: string): StateDirLock {
  let fd: number;
  try {
    fd = openSync(path, flags.O_RDWR | flags.O_CREAT, 0o600);
  } catch (cause) {
    throw cannotLock(place, cause as Error);
  }
  const errno = tryFlock(fd);
  if (errno === 0) return { release: async () => closeSync(fd) };
  const holder = errno === EWOULDBLOCK ? holderOf(fd) : undefined;
  closeSync(fd);
  if (errno !== EWOULDBLOCK) {
    const [code = 'unknown', words = `errno ${errno}`] = getSystemErrorMap().get(-errno) ?? [];
    throw cannotLock(place, Object.assign(new Error(`${code}: ${words}, flock '${path}'`), { code }));
  }
  const message = `Another agent already uses ${place}${holder === undefined ? '' : `, process ${holder}`}; stop it, or configure a different one for this agent`;
  throw new AgentError('STATE_DIR_LOCKED', message);
}

/** The process that has the lock, as far as the kernel says; see proc_locks(5). */
function holderOf(fd: number): string | undefined {
  try {
    const { ino } = fstatSync(fd, { bigint: true });
    const entry = new RegExp(`FLOCK +\\S+ +WRITE +(\\d+) +\\S+:${ino} `).exec(readFileSync('/proc/locks', 'utf8'));
    return entry?.[1];
  } catch {
    return undefined;
  }
}

function cannotLock(place: string, cause: Error): AgentError {
  const { code = 'INTERNAL', advice } = machineFaultOf(cause) ?? {};
  const message = `Cannot lock ${place}: ${cause.message}${advice === undefined ? '' : `; ${advice}`}`;
  return new AgentError(code, message, { cause });
}
