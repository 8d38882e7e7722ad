import { mkdirSync, statfsSync } from 'node:fs';
import { AgentError } from '../../../errors.js';
import { EPERM, kernelError } from '../abi/errno.js';
import { lastErrno, libc } from '../abi/ffi.js';

/** BPF_FS_MAGIC of include/uapi/linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

/**
 * Ensures that bpffs is mounted at a path: creates the folder and mounts one if there is none.
 *
 * @throws AgentError NO_PRIVILEGE if the agent may not mount, KERNEL
 */
export function ensureBpffs(path: string): void {
  if (isBpffs(path)) return;
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new AgentError('NO_PRIVILEGE', `The agent cannot make the folder ${path} for bpffs`, { cause });
  }
  // A folder that was created inside a bpffs is on bpffs already.
  if (isBpffs(path)) return;
  if (libc().mount('bpf', path, 'bpf', 0, 'mode=0700') === 0) return;
  const errno = lastErrno();
  if (errno === EPERM) {
    const message = `There is no bpffs at ${path} and the agent may not mount one; run mount -t bpf -o mode=0700 bpf ${path} as root, or grant CAP_SYS_ADMIN`;
    throw kernelError(message, errno, 'NO_PRIVILEGE');
  }
  throw kernelError(`Cannot mount bpffs at ${path}`, errno);
}

/** Whether a path lies on a bpffs. */
export function isBpffs(path: string): boolean {
  try {
    return statfsSync(path).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}
