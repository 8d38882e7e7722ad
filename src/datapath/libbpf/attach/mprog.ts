import koffi from 'koffi';
import type { ForeignProgram } from '../../../domain/foreign.js';
import type { AgentError } from '../../../errors.js';
import type { LinkPosition } from '../../../steps/step.js';
import { check, EBADF, ENODEV, ENXIO } from '../abi/errno.js';
import { Fd, openPin, tryOpenId } from '../abi/fd.js';
import { lastErrno, libbpf, libc } from '../abi/ffi.js';
import { programInfo } from '../abi/info.js';
import { LINK_CREATE_ATTR } from '../abi/structs.js';

/*
 * Hooks at which the kernel keeps up to 63 programs in order (bpf_mprog_attach in kernel/bpf/mprog.c), each with its
 * own link.
 */

/** BPF_MPROG_MAX in include/linux/bpf_mprog.h; one entry marks the end. */
const MOST_PROGRAMS = 64;

/** -1 as an unsigned number. */
const NO_DESCRIPTOR = 0xffffffff;

/** Number of bpf(2) (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h), and its command. */
const BPF: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 321, arm64: 280 };
const BPF_LINK_CREATE = 28n;

/** BPF_F_BEFORE or BPF_F_AFTER, with BPF_F_LINK: the position is relative to a link. */
const RELATIVE_TO_LINK = { before: (1 << 3) | (1 << 13), behind: (1 << 4) | (1 << 13) } as const;

export interface Neighbour {
  readonly side: keyof typeof RELATIVE_TO_LINK;
  readonly link: Fd;
}

/**
 * Asks how many programs a hook has.
 *
 * @param target index of an interface, or descriptor of a control group
 * @returns 0, or a negative errno: EINVAL if the kernel does not support such hooks
 */
export function tryCount(target: number, attachType: number): number {
  return libbpf().bpf_prog_query(target, attachType, 0, null, null, Buffer.alloc(4));
}

/** Ids of the programs at a hook, ours and foreign ones, in the order in which packets pass them. */
export function orderedPrograms(target: number, attachType: number): number[] {
  const [ids, count] = [Buffer.alloc(4 * MOST_PROGRAMS), Buffer.alloc(4)];
  count.writeUInt32LE(MOST_PROGRAMS);
  const result = libbpf().bpf_prog_query(target, attachType, 0, null, ids, count);
  // An interface that was removed in the meantime has none. One of another kind has its name now.
  if (result === -ENODEV || result === -ENXIO) return [];
  check(result, 'Cannot list the programs at a hook');
  return Array.from({ length: count.readUInt32LE() }, (_, index) => ids.readUInt32LE(4 * index));
}

/**
 * Those programs in an order that are not ours. What runs between two of ours counts as before, since it can keep
 * packets from the last one. Without any of ours, all run before: what is attached otherwise comes later.
 */
export function foreignIn(order: readonly number[], own: ReadonlySet<number>): ForeignProgram[] {
  const last = order.findLastIndex((id) => own.has(id));
  return order.flatMap((id, index): ForeignProgram[] => {
    using program = own.has(id) ? undefined : tryOpenId('prog', id);
    if (program === undefined) return [];
    return [{ id, name: programInfo(program.number).name, runs: last === -1 || index < last ? 'before' : 'behind' }];
  });
}

/**
 * Creates a link next to one of ours, or behind everything that is attached.
 *
 * @param refused gives the error for a negative errno
 */
export function createOrderedLink(
  program: Fd,
  target: number,
  attachType: number,
  place: LinkPosition | null,
  refused: (errno: number) => AgentError,
): Fd {
  const result = tryCreate(program, target, attachType, place);
  if (result < 0) throw refused(result);
  return new Fd(result);
}

function tryCreate(program: Fd, target: number, attachType: number, place: LinkPosition | null): number {
  if (place === null) return libbpf().bpf_link_create(program.number, target, attachType, null);
  using link = openPin('link', place.link);
  return createLinkNextTo({ side: place.side, link }, program, target, attachType);
}

/**
 * Creates a link directly before or behind another one. Not through libbpf, which supports this only from version 1.3
 * on.
 *
 * @returns the link's descriptor, or a negative errno
 */
export function createLinkNextTo({ side, link }: Neighbour, program: Fd, target: number, attachType: number): number {
  return createRelative(side, link.number, program, target, attachType);
}

/**
 * Whether the kernel can place programs next to others at a kind of hook. The request names an invalid neighbour. A
 * kernel that supports places answers EBADF; one that does not refuses the flags first. Nothing is attached.
 */
export function knowsPlaces(program: Fd, target: number, attachType: number): boolean {
  return createRelative('before', NO_DESCRIPTOR, program, target, attachType) === -EBADF;
}

function createRelative(
  side: Neighbour['side'],
  link: number,
  program: Fd,
  target: number,
  attachType: number,
): number {
  const number = BPF[process.arch];
  if (number === undefined) throw new Error(`the agent does not know bpf(2) on ${process.arch}`);
  const attr = LINK_CREATE_ATTR.make({
    prog_fd: program.number,
    target_ifindex: target,
    attach_type: attachType,
    flags: RELATIVE_TO_LINK[side],
    'tcx.relative_fd': link,
    // Any revision.
    'tcx.expected_revision': 0,
  });
  const result = libc().syscall(number, BPF_LINK_CREATE, koffi.address(attr), BigInt(attr.length), 0n, 0n);
  return result < 0 ? -lastErrno() : result;
}
