import { constants } from 'node:os';
import koffi from 'koffi';

/** LOCK_EX and LOCK_NB of flock(2). */
const EXCLUSIVE_AT_ONCE = 2 | 4;

let flock: ((fd: number, operation: number) => number) | undefined;

/**
 * Takes flock(2) on an open file, which Node does not have. It belongs to the open file: the kernel releases it when the
 * file is closed, and so when the process ends.
 *
 * @returns 0, or the errno; EWOULDBLOCK if another process has the lock
 */
export function tryFlock(fd: number): number {
  flock ??= koffi.load(null).func('int flock(int fd, int operation)') as NonNullable<typeof flock>;
  return flock(fd, EXCLUSIVE_AT_ONCE) === 0 ? 0 : koffi.errno();
}

export const { EWOULDBLOCK } = constants.errno;
