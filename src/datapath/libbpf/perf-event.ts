import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { ENOENT, kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libbpf, libc } from './ffi.js';

/*
 * Perf events, which tracepoints, kprobes and uprobes are attached by. libbpf's own functions for that keep the event for themselves
 * and switch it off when they let go of the link, so that a link which outlives its maker is made here.
 */

/** Number of perf_event_open(2) (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const PERF_EVENT_OPEN: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 298, arm64: 241 };
export const PERF_TYPE_TRACEPOINT = 2;
const PERF_FLAG_FD_CLOEXEC = 8n;
/** `enum bpf_attach_type`. */
const BPF_PERF_EVENT = 41;

const TRACEFS = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'];

export interface PerfEvent {
  readonly type: number;
  /** A tracepoint's id; of a kprobe or uprobe, whether the function's return is meant. */
  readonly config?: number;
  /** A kernel function's name or a file's path. */
  readonly target?: string;
  /** Bytes from the beginning of the function or file. */
  readonly offset?: number;
}

/** Whose events: this process's, on whatever CPU, or everybody's. */
export type Watched = 'this process' | 'all processes';

/**
 * Attaches a program to a perf event by a link, which can be pinned and holds the event (from kernel 5.15 on).
 *
 * @returns the link's descriptor, or a negative errno
 * @throws AgentError KERNEL where there is no such event
 */
export function attachPerfEvent(program: number, perfEvent: PerfEvent, watched: Watched): number {
  using event = openPerfEvent(perfEvent, watched);
  return libbpf().bpf_link_create(program, event.number, BPF_PERF_EVENT, null);
}

function openPerfEvent({ type, config = 0, target, offset = 0 }: PerfEvent, watched: Watched): Fd {
  const text = Buffer.from(`${target ?? ''}\0`);
  const attr = Buffer.alloc(72); // struct perf_event_attr up to config2
  attr.writeUInt32LE(type, 0);
  attr.writeUInt32LE(attr.length, 4);
  attr.writeBigUInt64LE(BigInt(config), 8);
  if (target !== undefined) attr.writeBigUInt64LE(koffi.address(text), 56);
  attr.writeBigUInt64LE(BigInt(offset), 64);
  const number = PERF_EVENT_OPEN[process.arch];
  if (number === undefined) throw new Error(`the agent does not know perf_event_open(2) on ${process.arch}`);
  // An event of all processes has to name a CPU, though a program that is attached to it runs on every one.
  const [pid, cpu] = watched === 'this process' ? [0n, -1n] : [-1n, 0n];
  const fd = libc().syscall(number, koffi.address(attr), pid, cpu, -1n, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) throw kernelError('cannot open a perf event', lastErrno());
  return new Fd(fd);
}

/** The number of a kind of perf events that the kernel gives out at boot. @throws Error where the kernel has not got it */
export function perfSource(kind: 'kprobe' | 'uprobe'): number {
  const path = `/sys/bus/event_source/devices/${kind}/type`;
  if (!existsSync(path)) throw new Error(`${path} is absent: the kernel was built without ${kind}s`);
  return Number(readFileSync(path, 'latin1'));
}

/** What `config` of a kprobe or uprobe has to be for the return of a function: a bit that the kernel names. */
export function returnConfig(kind: 'kprobe' | 'uprobe'): number {
  const format = readFileSync(`/sys/bus/event_source/devices/${kind}/format/retprobe`, 'latin1');
  const [, bit] = /^config:([0-9]{1,2})\s*$/.exec(format) ?? [];
  if (bit === undefined) throw new Error(`the kernel describes the return of a ${kind} as ${format.trim()}`);
  return 2 ** Number(bit);
}

/** Where tracefs is mounted; undefined where it is not. */
export function mountedTracefs(): string | undefined {
  return TRACEFS.find((path) => existsSync(join(path, 'events')));
}

/**
 * Id of a tracepoint, undefined if the kernel has none of that name. Where tracefs is not mounted it is, aside and for this moment: what
 * a host mounts is its own affair.
 *
 * @throws AgentError KERNEL where it cannot be mounted
 */
export function tracepointId(group: string, name: string): number | undefined {
  const mounted = mountedTracefs();
  if (mounted !== undefined) return readTracepointId(mounted, group, name);
  const folder = mkdtempSync(join(tmpdir(), 'l3af-tracefs-'));
  try {
    if (libc().mount('tracefs', folder, 'tracefs', 0, '') !== 0) throw kernelError('cannot mount tracefs', lastErrno());
    try {
      return readTracepointId(folder, group, name);
    } finally {
      libc().umount2(folder, 0);
    }
  } finally {
    rmdirSync(folder);
  }
}

function readTracepointId(tracefs: string, group: string, name: string): number | undefined {
  try {
    return Number(readFileSync(join(tracefs, 'events', group, name, 'id'), 'latin1'));
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw kernelError(`Cannot read the id of the tracepoint ${group}/${name}`, ENOENT, 'KERNEL', { cause });
  }
}
