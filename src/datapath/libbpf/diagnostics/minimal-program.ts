import { check } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { libbpf } from '../abi/ffi.js';
import { INSN, PROG_LOAD_OPTS } from '../abi/structs.js';

/** `enum bpf_prog_type` and the `enum bpf_attach_type` that goes with it. */
export const MINIMAL_PROGRAM = {
  xdp: { type: 6, attachType: 37, returns: 2 }, // XDP_PASS
  tc: { type: 3, attachType: 0, returns: -1 }, // TC_ACT_UNSPEC: the next one decides
  cgroupSkb: { type: 8, attachType: 0, returns: 1 }, // the packet passes
  kprobe: { type: 2, attachType: 0, returns: 0 }, // uprobes too
  tracepoint: { type: 5, attachType: 0, returns: 0 },
  rawTracepoint: { type: 17, attachType: 0, returns: 0 },
  tpBtf: { type: 26, attachType: 23, returns: 0 },
  fentry: { type: 26, attachType: 24, returns: 0 },
} as const;

/** BPF_ALU64 | BPF_MOV | BPF_K and BPF_JMP | BPF_EXIT of include/uapi/linux/bpf.h and bpf_common.h. */
const [MOV_IMMEDIATE, EXIT] = [0xb7, 0x95];

export type MinimalProgramKind = keyof typeof MINIMAL_PROGRAM;

/**
 * Loads the smallest program of a kind: `r0 = …; exit`. The kernel frees it when its descriptor is closed.
 *
 * @param btfId for an fentry or tp_btf program, the BTF id of its target
 * @throws AgentError KERNEL
 */
export function loadMinimalProgram(kind: MinimalProgramKind, btfId = 0): Fd {
  const { type, attachType, returns } = MINIMAL_PROGRAM[kind];
  const code = [INSN.make({ code: MOV_IMMEDIATE, imm: returns }), INSN.make({ code: EXIT })];
  const opts = PROG_LOAD_OPTS.make({
    sz: PROG_LOAD_OPTS.size,
    expected_attach_type: attachType,
    attach_btf_id: btfId,
  });
  const fd = libbpf().bpf_prog_load(type, 'l3af_check', 'GPL', Buffer.concat(code), code.length, opts);
  return new Fd(check(fd, 'cannot load a program'));
}
