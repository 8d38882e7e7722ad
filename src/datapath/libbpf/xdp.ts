import type { XdpRunMode } from '../../domain/observed.js';
import type { XdpMode } from '../datapath.js';
import { check, ENODEV } from './errno.js';
import { libbpf } from './ffi.js';

/*
 * XDP as an interface has it: by the driver, by the stack, or by the device itself.
 */

/** XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE of include/uapi/linux/if_link.h; 0: the driver if it can, else the stack. */
export const XDP_FLAGS = { auto: 0, native: 1 << 2, generic: 1 << 1 } as const satisfies Record<XdpMode, number>;

/** Offset of the program id of each mode in `struct bpf_xdp_query_opts`. */
const PROGRAM_ID = { native: 12, offloaded: 16, generic: 20 } as const satisfies Record<XdpRunMode, number>;

/** The ids of the programs at an interface's XDP hook, whoever attached them, by where they run: at most one of each mode. */
export function xdpPrograms(ifindex: number): ReadonlyMap<XdpRunMode, number> {
  const opts = Buffer.alloc(32); // struct bpf_xdp_query_opts
  opts.writeBigUInt64LE(32n, 0);
  const result = libbpf().bpf_xdp_query(ifindex, 0, opts);
  // An interface that has gone meanwhile has none.
  if (result !== -ENODEV) check(result, 'Cannot ask for the XDP programs of an interface');
  const modes = Object.entries(PROGRAM_ID) as [XdpRunMode, number][];
  return new Map(
    modes.map(([mode, offset]) => [mode, opts.readUInt32LE(offset)] as const).filter(([, id]) => id !== 0),
  );
}

/** Where a program runs at an interface's XDP hook; undefined if it does not. */
export function xdpModeOf(programId: number, ifindex: number): XdpRunMode | undefined {
  for (const [mode, id] of xdpPrograms(ifindex)) if (id === programId) return mode;
  return undefined;
}
