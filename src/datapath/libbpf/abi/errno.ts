import { getSystemErrorMap } from 'node:util';
import { AgentError, type AgentErrorOptions, type ErrorCode } from '../../../errors.js';

/** The error numbers that the code handles (include/uapi/asm-generic/errno-base.h and errno.h). */
export const EPERM = 1;
export const ENOENT = 2;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EEXIST = 17;
export const EBUSY = 16;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ENOSPC = 28;
export const ERANGE = 34;
export const ELOOP = 40;
export const EOPNOTSUPP = 95;

/**
 * Errors that Node describes in terms of sockets, or does not know: one internal to the kernel, and libbpf's own
 * (libbpf_legacy.h, enum libbpf_errno).
 */
const OWN_WORDS: ReadonlyMap<number, string> = new Map([
  [EOPNOTSUPP, 'EOPNOTSUPP: operation not supported'],
  [524, 'ENOTSUPP: operation not supported by this kernel'],
  [4000, 'libelf failed'],
  [4001, 'no valid eBPF object'],
  [4002, 'the object is for another kernel version'],
  [4003, 'the object has the other byte order'],
  [4004, 'internal error of libbpf'],
  [4005, 'relocation failed'],
  [4006, 'the verifier could not be called'],
  [4007, 'the verifier refused the program'],
  [4008, 'the program is too big'],
  [4009, 'the object is for another kernel version'],
  [4010, 'the kernel does not support the program type'],
]);

/** An errno in words: `EINVAL: invalid argument`. @param errno positive, or negative as functions of libbpf return it */
export function errnoWords(errno: number): string {
  const number = Math.abs(errno);
  const own = OWN_WORDS.get(number);
  if (own !== undefined) return own;
  const known = getSystemErrorMap().get(-number);
  return known === undefined ? `errno ${number}` : `${known[0]}: ${known[1]}`;
}

/**
 * The error for a call that the kernel refused.
 *
 * @param failed what failed, as a sentence without a full stop: `Cannot pin the program at /sys/fs/bpf/x`
 */
export function kernelError(
  failed: string,
  errno: number,
  code: ErrorCode = 'KERNEL',
  options: Omit<AgentErrorOptions, 'detail'> = {},
): AgentError {
  const words = errnoWords(errno);
  return new AgentError(code, `${failed} (${words})`, { ...options, detail: words });
}

/** Returns the result of a call unless it is negative. @throws AgentError KERNEL */
export function check(result: number, failed: string): number {
  if (result < 0) throw kernelError(failed, result);
  return result;
}
