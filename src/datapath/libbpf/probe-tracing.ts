import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProbeTarget } from '../../domain/probe.js';
import { attempt, type Probe } from './attempt.js';
import { check } from './errno.js';
import { Fd } from './fd.js';
import { libbpf } from './ffi.js';
import {
  attachPerfEvent,
  mountedTracefs,
  PERF_TYPE_TRACEPOINT,
  type PerfEvent,
  perfSource,
  tracepointId,
} from './perf-event.js';
import { loadProbeProgram, PROBE_PROGRAM } from './probe-program.js';

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

/**
 * Why this machine cannot run a kind of probes; undefined where it can. Tried before anything of a package is loaded, since the kernel
 * itself says no more than `EINVAL`.
 */
export function whyNot(kind: ProbeTarget['kind']): string | undefined {
  const { ok, reason } = attempt(kind, TRIALS[kind]);
  return ok ? undefined : reason;
}

const TRIALS: Readonly<Record<ProbeTarget['kind'], () => undefined>> = {
  tracepoint: tryTracepoint,
  'raw-tracepoint': tryRawTracepoint,
  kprobe: tryKprobe,
  kretprobe: tryKprobe,
  uprobe: tryUprobe,
  uretprobe: tryUprobe,
  fentry: tryFentry,
  fexit: tryFentry,
};

function tracefs(): string {
  return mountedTracefs() ?? 'not mounted; the agent mounts one for a moment where it needs to';
}

function tryTracepoint(): undefined {
  const id = tracepointId(TRACEPOINT.group, TRACEPOINT.name);
  if (id === undefined) throw new Error(`the kernel has no tracepoint ${TRACEPOINT.group}/${TRACEPOINT.name}`);
  using program = loadProbeProgram('tracepoint');
  using _link = tryPerfEvent(program, { type: PERF_TYPE_TRACEPOINT, config: id });
}

function tryRawTracepoint(): undefined {
  using program = loadProbeProgram('rawTracepoint');
  const link = libbpf().bpf_raw_tracepoint_open(TRACEPOINT.name, program.number);
  using _link = new Fd(check(link, `cannot attach to ${TRACEPOINT.name}`));
}

function tryKprobe(): undefined {
  const type = perfSource('kprobe');
  using program = loadProbeProgram('kprobe');
  using _link = tryPerfEvent(program, { type, target: KERNEL_FUNCTION });
}

/** On a file of its own that nobody runs. */
function tryUprobe(): undefined {
  const type = perfSource('uprobe');
  const folder = mkdtempSync(join(tmpdir(), 'l3af-check-'));
  try {
    const target = join(folder, 'target');
    writeFileSync(target, Buffer.alloc(4096));
    using program = loadProbeProgram('kprobe');
    using _link = tryPerfEvent(program, { type, target });
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

function tryPerfEvent(program: Fd, event: PerfEvent): Fd {
  return new Fd(check(attachPerfEvent(program.number, event, 'this process'), 'the kernel refuses the link'));
}
