import { closeSync, lstatSync, readlinkSync } from 'node:fs';
import { EACCES, EAGAIN, ELOOP, ENOENT, ENOTDIR, kernelError } from './errno.js';
import { libbpf } from './ffi.js';

/** What can be pinned. */
export type Kind = 'prog' | 'map' | 'link';

/** A file descriptor that is closed at the end of the block that declares it with `using`. */
export class Fd implements Disposable {
  readonly number: number;

  constructor(number: number) {
    this.number = number;
  }

  [Symbol.dispose](): void {
    closeSync(this.number);
  }

  /** Whether it is a BPF object of that kind: reading the information of another kind returns nonsense. */
  isA(kind: Kind): boolean {
    // The kernel writes `bpf-map`, and `bpf-link` or `bpf_link` depending on how the descriptor was created.
    const inode = readlinkSync(`/proc/self/fd/${this.number}`);
    return inode.replace('_link', '-link') === `anon_inode:bpf-${kind}`;
  }
}

/**
 * The object of a kind that is pinned at a path; undefined if there is none. A directory or an object of another kind
 * counts as none: one foreign entry must not hide everything else.
 *
 * @throws AgentError KERNEL
 */
export function tryOpenPin(kind: Kind, path: string): Fd | undefined {
  const found = tryOpenAny(path);
  if (found === undefined || found.isA(kind)) return found;
  found[Symbol.dispose]();
  return undefined;
}

/** The object of any kind that is pinned at a path; undefined if there is none. @throws AgentError KERNEL */
export function tryOpenAny(path: string): Fd | undefined {
  const fd = libbpf().bpf_obj_get(path);
  if (fd >= 0) return new Fd(fd);
  // The kernel returns EACCES for anything that is not a BPF object (bpf_inode_type in kernel/bpf/inode.c), and to
  // callers without permission.
  const isNone = NOTHING_THERE.has(-fd) || (fd === -EACCES && lstatSync(path, MAYBE)?.isFile() !== true);
  if (isNone) return undefined;
  throw kernelError(`Cannot open ${path}`, fd);
}

const NOTHING_THERE: ReadonlySet<number> = new Set([ENOENT, ENOTDIR, ELOOP]);
const MAYBE = { throwIfNoEntry: false } as const;

/** The object of a kind that is pinned at a path. @throws AgentError KERNEL, also if there is none */
export function openPin(kind: Kind, path: string): Fd {
  const fd = tryOpenPin(kind, path);
  if (fd === undefined) throw kernelError(`No ${kind} is pinned at ${path}`, ENOENT);
  return fd;
}

/**
 * A program, map or link by its id; undefined if there is none, or if it is a link whose creation is not complete
 * (EAGAIN: bpf_link_by_id in kernel/bpf/syscall.c).
 */
export function tryOpenId(kind: Kind, id: number): Fd | undefined {
  const fd = libbpf()[`bpf_${kind}_get_fd_by_id`](id);
  if (fd === -ENOENT || fd === -EAGAIN) return undefined;
  if (fd < 0) throw kernelError(`Cannot open the ${kind} with id ${id}`, fd);
  return new Fd(fd);
}
