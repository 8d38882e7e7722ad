import { closeSync, readlinkSync } from 'node:fs';
import { EAGAIN, ENOENT, kernelError } from './errno.js';
import { libbpf } from './ffi.js';

/** A file descriptor that is closed at the end of the block that holds it with `using`. */
export class Fd implements Disposable {
  readonly number: number;

  constructor(number: number) {
    this.number = number;
  }

  [Symbol.dispose](): void {
    closeSync(this.number);
  }

  /** Whether it is a BPF object of that kind: asking one kind for the information of another gives nonsense. */
  isA(kind: 'prog' | 'map' | 'link'): boolean {
    // The kernel writes `bpf-map`, and `bpf-link` or `bpf_link` depending on how the descriptor came about.
    const inode = readlinkSync(`/proc/self/fd/${this.number}`);
    return inode.replace('_link', '-link') === `anon_inode:bpf-${kind}`;
  }
}

/** What is pinned at a path; undefined if nothing is. @throws AgentError KERNEL */
export function tryOpenPin(path: string): Fd | undefined {
  const fd = libbpf().bpf_obj_get(path);
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw kernelError(`Cannot open ${path}`, fd);
  return new Fd(fd);
}

/** What is pinned at a path. @throws AgentError KERNEL, also when nothing is */
export function openPin(path: string): Fd {
  const fd = tryOpenPin(path);
  if (fd === undefined) throw kernelError(`Nothing is pinned at ${path}`, ENOENT);
  return fd;
}

/**
 * A program, map or link by its id; undefined if there is none, or if it is a link that is still being made (EAGAIN: bpf_link_by_id in
 * kernel/bpf/syscall.c).
 */
export function tryOpenId(kind: 'prog' | 'map' | 'link', id: number): Fd | undefined {
  const fd = libbpf()[`bpf_${kind}_get_fd_by_id`](id);
  if (fd === -ENOENT || fd === -EAGAIN) return undefined;
  if (fd < 0) throw kernelError(`Cannot open the ${kind} with id ${id}`, fd);
  return new Fd(fd);
}
