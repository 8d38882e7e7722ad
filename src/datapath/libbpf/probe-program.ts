import { check } from './errno.js';
import { Fd } from './fd.js';
import { libbpf } from './ffi.js';

/** `enum bpf_prog_type` and the `enum bpf_attach_type` that goes with it. */
export const PROBE_PROGRAM = {
  xdp: { type: 6, attachType: 37, returns: 2 }, // XDP_PASS
  tc: { type: 3, attachType: 0, returns: -1 }, // TC_ACT_UNSPEC: the next one decides
  kprobe: { type: 2, attachType: 0, returns: 0 }, // uprobes too
  tracepoint: { type: 5, attachType: 0, returns: 0 },
  rawTracepoint: { type: 17, attachType: 0, returns: 0 },
  fentry: { type: 26, attachType: 24, returns: 0 },
} as const;

export type ProbeKind = keyof typeof PROBE_PROGRAM;

/**
 * The smallest program of a kind: `r0 = …; exit`. It is gone when its descriptor is closed.
 *
 * @param btfId id of the kernel function that an fentry program is for
 * @throws AgentError KERNEL
 */
export function loadProbeProgram(kind: ProbeKind, btfId = 0): Fd {
  const { type, attachType, returns } = PROBE_PROGRAM[kind];
  const code = Buffer.alloc(16); // two of `struct bpf_insn`
  code[0] = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K, destination r0
  code.writeInt32LE(returns, 4);
  code[8] = 0x95; // BPF_JMP | BPF_EXIT
  const opts = Buffer.alloc(104); // struct bpf_prog_load_opts
  opts.writeBigUInt64LE(104n, 0);
  opts.writeUInt32LE(attachType, 12);
  opts.writeUInt32LE(btfId, 32);
  return new Fd(check(libbpf().bpf_prog_load(type, 'l3af_check', 'GPL', code, 2, opts), 'cannot load a program'));
}
