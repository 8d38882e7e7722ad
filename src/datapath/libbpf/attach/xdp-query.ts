import type { XdpRunMode } from '../../../domain/observed.js';
import type { XdpMode } from '../../datapath.js';
import { check, ENODEV } from '../abi/errno.js';
import { libbpf } from '../abi/ffi.js';
import { XDP_QUERY_OPTS } from '../abi/structs.js';

/*
 * The XDP programs of an interface: run by the driver, by the network stack, or by the device itself.
 */

/**
 * XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE of include/uapi/linux/if_link.h; 0: in the driver if it supports XDP, else
 * in the stack.
 */
export const XDP_FLAGS = { auto: 0, native: 1 << 2, generic: 1 << 1 } as const satisfies Record<XdpMode, number>;

/** The field with the program id of each mode. */
const PROGRAM_ID = {
  native: 'drv_prog_id',
  offloaded: 'hw_prog_id',
  generic: 'skb_prog_id',
} as const satisfies Record<XdpRunMode, string>;

/**
 * The ids of the programs at an interface's XDP hook, ours and foreign ones, by where they run: at most one for each
 * mode.
 */
export function xdpPrograms(ifindex: number): ReadonlyMap<XdpRunMode, number> {
  const opts = XDP_QUERY_OPTS.make({ sz: XDP_QUERY_OPTS.size });
  const result = libbpf().bpf_xdp_query(ifindex, 0, opts);
  // An interface that was removed in the meantime has none.
  if (result !== -ENODEV) check(result, 'Cannot query the XDP programs of an interface');
  const modes = Object.entries(PROGRAM_ID) as [XdpRunMode, string][];
  return new Map(
    modes.map(([mode]) => [mode, XDP_QUERY_OPTS.read(opts, PROGRAM_ID[mode])] as const).filter(([, id]) => id !== 0),
  );
}

/** Where a program runs at an interface's XDP hook; undefined if it is not attached there. */
export function xdpModeOf(programId: number, ifindex: number): XdpRunMode | undefined {
  for (const [mode, id] of xdpPrograms(ifindex)) if (id === programId) return mode;
  return undefined;
}
