import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { attempt, type Probe } from './attempt.js';
import { check, kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libbpf, libc } from './ffi.js';
import { loadProbeProgram, PROBE_PROGRAM } from './probe-program.js';

/** Number of perf_event_open(2) (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const PERF_EVENT_OPEN: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 298, arm64: 241 };
const PERF_TYPE_TRACEPOINT = 2;
const PERF_FLAG_FD_CLOEXEC = 8n;
/** `enum bpf_attach_type`. */
const BPF_PERF_EVENT = 41;

const TRACEFS = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'];
const TRACEPOINT = { group: 'sched', name: 'sched_switch' };
/** Functions that are there to be traced: one for any probe, one that the kernel has for trying fentry (net/bpf/test_run.c). */
const KERNEL_FUNCTION = 'do_nanosleep';
const FENTRY_FUNCTION = 'bpf_fentry_test1';

/** Tries what programs without an interface hang on. Each sees this process only, and only for a moment. */
export function probeTracing(): Probe[] {
  return [
    attempt('tracefs', tracefs),
    attempt('tracepoint', tryTracepoint),
    attempt('raw tracepoint', tryRawTracepoint),
    attempt('kprobe', tryKprobe),
    attempt('uprobe', tryUprobe),
    attempt('fentry', tryFentry),
  ];
}

function tracefs(): string {
  const mounted = TRACEFS.find((path) => existsSync(join(path, 'events')));
  if (mounted === undefined) throw new Error(`none is mounted; run mount -t tracefs tracefs ${TRACEFS[0]}`);
  return mounted;
}

function tryTracepoint(): undefined {
  const id = Number(readFileSync(join(tracefs(), 'events', TRACEPOINT.group, TRACEPOINT.name, 'id'), 'latin1'));
  using program = loadProbeProgram('tracepoint');
  attachPerfEvent(program, { type: PERF_TYPE_TRACEPOINT, config: id });
}

function tryRawTracepoint(): undefined {
  using program = loadProbeProgram('rawTracepoint');
  const link = libbpf().bpf_raw_tracepoint_open(TRACEPOINT.name, program.number);
  using _link = new Fd(check(link, `cannot attach to ${TRACEPOINT.name}`));
}

function tryKprobe(): undefined {
  const type = perfSource('kprobe');
  using program = loadProbeProgram('kprobe');
  attachPerfEvent(program, { type, target: KERNEL_FUNCTION });
}

/** On a file of its own that nobody runs. */
function tryUprobe(): undefined {
  const type = perfSource('uprobe');
  const folder = mkdtempSync(join(tmpdir(), 'l3af-check-'));
  try {
    const target = join(folder, 'target');
    writeFileSync(target, Buffer.alloc(4096));
    using program = loadProbeProgram('kprobe');
    attachPerfEvent(program, { type, target });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function tryFentry(): undefined {
  const { attachType } = PROBE_PROGRAM.fentry;
  const id = check(libbpf().libbpf_find_vmlinux_btf_id(FENTRY_FUNCTION, attachType), `no BTF for ${FENTRY_FUNCTION}`);
  using program = loadProbeProgram('fentry', id);
  const link = libbpf().bpf_raw_tracepoint_open(null, program.number);
  using _link = new Fd(check(link, `cannot attach to ${FENTRY_FUNCTION}`));
}

/** The number of a kind of perf events that the kernel gives out at boot. */
function perfSource(kind: 'kprobe' | 'uprobe'): number {
  const path = `/sys/bus/event_source/devices/${kind}/type`;
  if (!existsSync(path)) throw new Error(`${path} is absent: the kernel was built without ${kind}s`);
  return Number(readFileSync(path, 'latin1'));
}

interface PerfEvent {
  readonly type: number;
  /** A tracepoint's id. */
  readonly config?: number;
  /** A function's name or a file's path; its start is meant. */
  readonly target?: string;
}

/** As links from kernel 5.15 on. */
function attachPerfEvent(program: Fd, { type, config = 0, target }: PerfEvent): void {
  const text = Buffer.from(`${target ?? ''}\0`);
  const attr = Buffer.alloc(72); // struct perf_event_attr up to config2
  attr.writeUInt32LE(type, 0);
  attr.writeUInt32LE(attr.length, 4);
  attr.writeBigUInt64LE(BigInt(config), 8);
  if (target !== undefined) attr.writeBigUInt64LE(koffi.address(text), 56);
  const number = PERF_EVENT_OPEN[process.arch];
  if (number === undefined) throw new Error(`the agent does not know perf_event_open(2) on ${process.arch}`);
  const [thisProcess, anyCpu, noGroup] = [0n, -1n, -1n];
  const fd = libc().syscall(number, koffi.address(attr), thisProcess, anyCpu, noGroup, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) throw kernelError('cannot open a perf event', lastErrno());
  using event = new Fd(fd);
  const link = libbpf().bpf_link_create(program.number, event.number, BPF_PERF_EVENT, null);
  using _link = new Fd(check(link, 'the kernel refuses the link'));
}
