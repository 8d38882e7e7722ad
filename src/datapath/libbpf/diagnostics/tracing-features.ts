import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProbeTarget } from '../../../domain/probe.js';
import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import {
  attachPerfEvent,
  mountedTracefs,
  PERF_TYPE_TRACEPOINT,
  type PerfEvent,
  perfSource,
  tracepointId,
} from '../tracing/perf-event.js';
import { attempt, type Feature } from './attempt.js';
import { loadMinimalProgram, MINIMAL_PROGRAM } from './minimal-program.js';

const TRACEPOINT = { group: 'sched', name: 'sched_switch' };
/**
 * Functions to trace: one that any kernel has, and one that the kernel provides for tests of fentry
 * (net/bpf/test_run.c).
 */
const KERNEL_FUNCTION = 'do_nanosleep';
const FENTRY_FUNCTION = 'bpf_fentry_test1';

/** Tries the targets of tracing programs. Each program sees only this process, and only for a moment. */
export function tracingFeatures(): Feature[] {
  return [
    attempt('tracefs', tracefs),
    attempt('tracepoint', tryTracepoint),
    attempt('raw tracepoint', tryRawTracepoint),
    attempt('tp_btf', tryTpBtf),
    attempt('kprobe', tryKprobe),
    attempt('uprobe', tryUprobe),
    attempt('fentry', tryFentry),
  ];
}

/**
 * Why this machine cannot run a kind of probe; undefined if it can. Tried before anything of a package is loaded, since
 * the kernel's own error is just `EINVAL`.
 */
export function whyNot(kind: ProbeTarget['kind']): string | undefined {
  const { ok, reason } = attempt(kind, TRIALS[kind]);
  return ok ? undefined : reason;
}

const TRIALS: Readonly<Record<ProbeTarget['kind'], () => undefined>> = {
  tracepoint: tryTracepoint,
  'raw-tracepoint': tryRawTracepoint,
  'tp-btf': tryTpBtf,
  kprobe: tryKprobe,
  kretprobe: tryKprobe,
  uprobe: tryUprobe,
  uretprobe: tryUprobe,
  fentry: tryFentry,
  fexit: tryFentry,
};

function tracefs(): string {
  return mountedTracefs() ?? 'not mounted; the agent mounts one for a moment when needed';
}

function tryTracepoint(): undefined {
  const id = tracepointId(TRACEPOINT.group, TRACEPOINT.name);
  if (id === undefined) throw new Error(`the kernel has no tracepoint ${TRACEPOINT.group}/${TRACEPOINT.name}`);
  using program = loadMinimalProgram('tracepoint');
  using _link = tryPerfEvent(program, { type: PERF_TYPE_TRACEPOINT, config: id });
}

function tryRawTracepoint(): undefined {
  using program = loadMinimalProgram('rawTracepoint');
  const link = libbpf().bpf_raw_tracepoint_open(TRACEPOINT.name, program.number);
  using _link = new Fd(check(link, `cannot attach to ${TRACEPOINT.name}`));
}

function tryTpBtf(): undefined {
  attachByBtf('tpBtf', TRACEPOINT.name);
}

function tryKprobe(): undefined {
  const type = perfSource('kprobe');
  using program = loadMinimalProgram('kprobe');
  using _link = tryPerfEvent(program, { type, target: KERNEL_FUNCTION });
}

/** On a temporary file that nobody executes. */
function tryUprobe(): undefined {
  const type = perfSource('uprobe');
  const folder = mkdtempSync(join(tmpdir(), 'l3af-check-'));
  try {
    const target = join(folder, 'target');
    writeFileSync(target, Buffer.alloc(4096));
    using program = loadMinimalProgram('kprobe');
    using _link = tryPerfEvent(program, { type, target });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function tryFentry(): undefined {
  attachByBtf('fentry', FENTRY_FUNCTION);
}

/** Attaches a program to what the BTF of the kernel names, for a moment. */
function attachByBtf(kind: 'fentry' | 'tpBtf', target: string): void {
  const { attachType } = MINIMAL_PROGRAM[kind];
  const id = check(libbpf().libbpf_find_vmlinux_btf_id(target, attachType), `no BTF for ${target}`);
  using program = loadMinimalProgram(kind, id);
  const link = libbpf().bpf_raw_tracepoint_open(null, program.number);
  using _link = new Fd(check(link, `cannot attach to ${target}`));
}

function tryPerfEvent(program: Fd, event: PerfEvent): Fd {
  return new Fd(check(attachPerfEvent(program.number, event, 'this process'), 'the kernel refuses the link'));
}
