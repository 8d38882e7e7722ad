import koffi from 'koffi';
import type { TcDirection } from './clsact.js';
import { check, EINVAL, ENODEV } from './errno.js';
import type { Fd } from './fd.js';
import { lastErrno, libbpf, libc } from './ffi.js';

/*
 * TCX: the kernel keeps up to 63 programs per hook in an order, and runs each after the one before it has returned TC_ACT_UNSPEC
 * (tcx_run in net/core/dev.c, bpf_mprog_attach in kernel/bpf/mprog.c). From kernel 6.6 on.
 */

/** BPF_TCX_INGRESS and BPF_TCX_EGRESS of `enum bpf_attach_type`. */
export const TCX_ATTACH_TYPE = { ingress: 46, egress: 47 } as const satisfies Record<TcDirection, number>;

/** BPF_MPROG_MAX in include/linux/bpf_mprog.h; one place is for the end. */
const MOST_PROGRAMS = 64;

/** Number of bpf(2) (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h), and its command. */
const BPF: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 321, arm64: 280 };
const BPF_LINK_CREATE = 28n;

/** BPF_F_BEFORE or BPF_F_AFTER, with BPF_F_LINK: what it is relative to is a link. */
const RELATIVE_TO_LINK = { before: (1 << 3) | (1 << 13), behind: (1 << 4) | (1 << 13) } as const;

export interface Neighbour {
  readonly side: keyof typeof RELATIVE_TO_LINK;
  readonly link: Fd;
}

/** Whether the kernel knows TCX: it does not refuse to list an interface's TCX programs. */
export function knowsTcx(ifindex: number): boolean {
  const count = Buffer.alloc(4);
  return libbpf().bpf_prog_query(ifindex, TCX_ATTACH_TYPE.ingress, 0, null, null, count) !== -EINVAL;
}

/** Ids of the programs at a hook, whoever attached them, in the order in which packets pass them. */
export function tcxPrograms(ifindex: number, direction: TcDirection): number[] {
  const [ids, count] = [Buffer.alloc(4 * MOST_PROGRAMS), Buffer.alloc(4)];
  count.writeUInt32LE(MOST_PROGRAMS);
  const result = libbpf().bpf_prog_query(ifindex, TCX_ATTACH_TYPE[direction], 0, null, ids, count);
  // An interface that has gone meanwhile has none.
  if (result === -ENODEV) return [];
  check(result, 'Cannot list the TCX programs of an interface');
  return Array.from({ length: count.readUInt32LE() }, (_, index) => ids.readUInt32LE(4 * index));
}

/**
 * Makes a link right before or right behind another one. Not by libbpf, which takes no neighbour before its version 1.3.
 *
 * @returns the link's descriptor, or a negative errno
 */
export function createLinkNextTo(
  { side, link }: Neighbour,
  program: Fd,
  ifindex: number,
  direction: TcDirection,
): number {
  const number = BPF[process.arch];
  if (number === undefined) throw new Error(`the agent does not know bpf(2) on ${process.arch}`);
  const attr = Buffer.alloc(32); // `link_create` of `union bpf_attr` up to `tcx.expected_revision`, of which 0 is any
  attr.writeUInt32LE(program.number, 0);
  attr.writeUInt32LE(ifindex, 4);
  attr.writeUInt32LE(TCX_ATTACH_TYPE[direction], 8);
  attr.writeUInt32LE(RELATIVE_TO_LINK[side], 12);
  attr.writeUInt32LE(link.number, 16);
  const result = libc().syscall(number, BPF_LINK_CREATE, koffi.address(attr), BigInt(attr.length), 0n, 0n);
  return result < 0 ? -lastErrno() : result;
}
