import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { ENOENT, kernelError } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { lastErrno, libbpf, libc } from '../abi/ffi.js';
import { PERF_EVENT_ATTR } from '../abi/structs.js';

/*
 * Perf events, to which programs of tracepoints, kprobes and uprobes are attached. libbpf's own functions keep the
 * event's descriptor and disable the event when the link is freed. A link that outlives its creator is therefore
 * created here.
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
  /** For a tracepoint its id; for a kprobe or uprobe, whether the function's return is meant. */
  readonly config?: number;
  /** Name of a kernel function, or path of a file. */
  readonly target?: string;
  /** Bytes from the start of the function or file. */
  readonly offset?: number;
}

/** Whose events: those of this process on any CPU, or those of all processes. */
export type Watched = 'this process' | 'all processes';

/**
 * Attaches a program to a perf event by a link, which can be pinned and holds the event (from Linux 5.15 on).
 *
 * @returns the link's descriptor, or a negative errno
 * @throws AgentError KERNEL if there is no such event
 */
export function attachPerfEvent(program: number, perfEvent: PerfEvent, watched: Watched): number {
  using event = openPerfEvent(perfEvent, watched);
  return libbpf().bpf_link_create(program, event.number, BPF_PERF_EVENT, null);
}

function openPerfEvent({ type, config = 0, target, offset = 0 }: PerfEvent, watched: Watched): Fd {
  const text = Buffer.from(`${target ?? ''}\0`);
  const attr = PERF_EVENT_ATTR.make({
    type,
    size: PERF_EVENT_ATTR.size,
    config,
    config1: target === undefined ? 0 : koffi.address(text),
    config2: offset,
  });
  const number = PERF_EVENT_OPEN[process.arch];
  if (number === undefined) throw new Error(`the agent does not know perf_event_open(2) on ${process.arch}`);
  // An event of all processes must name a CPU, but a program that is attached to it runs on all CPUs.
  const [pid, cpu] = watched === 'this process' ? [0n, -1n] : [-1n, 0n];
  const fd = libc().syscall(number, koffi.address(attr), pid, cpu, -1n, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) throw kernelError('cannot open a perf event', lastErrno());
  return new Fd(fd);
}

/**
 * The type number of kprobe or uprobe events, which the kernel assigns at boot.
 *
 * @throws Error if the kernel does not support them
 */
export function perfSource(kind: 'kprobe' | 'uprobe'): number {
  const path = `/sys/bus/event_source/devices/${kind}/type`;
  if (!existsSync(path)) throw new Error(`${path} is absent: the kernel was built without ${kind}s`);
  return Number(readFileSync(path, 'latin1'));
}

/** The `config` of a kprobe or uprobe for the return of a function: a bit that the kernel reports. */
export function returnConfig(kind: 'kprobe' | 'uprobe'): number {
  const format = readFileSync(`/sys/bus/event_source/devices/${kind}/format/retprobe`, 'latin1');
  const [, bit] = /^config:([0-9]{1,2})\s*$/.exec(format) ?? [];
  if (bit === undefined) throw new Error(`the kernel describes the return of a ${kind} as ${format.trim()}`);
  return 2 ** Number(bit);
}

/** Where tracefs is mounted; undefined if it is not. */
export function mountedTracefs(): string | undefined {
  return TRACEFS.find((path) => existsSync(join(path, 'events')));
}

/**
 * Id of a tracepoint; undefined if the kernel has none of that name. If tracefs is not mounted, it is mounted in a
 * temporary folder for this call: which mounts a host has is not for the agent to decide.
 *
 * @throws AgentError KERNEL if it cannot be mounted
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
