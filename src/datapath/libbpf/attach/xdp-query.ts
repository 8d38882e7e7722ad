import type { XdpRunMode } from '../../../domain/observed.js';
import type { XdpMode } from '../../datapath.js';
import { type InterfaceInfo, interfaceInfo } from '../abi/interfaces.js';
import { attribute } from '../abi/netlink.js';

/*
 * The XDP programs of an interface: run by the driver, by the network stack, or by the device itself.
 */

/**
 * XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE of include/uapi/linux/if_link.h; 0: in the driver if it supports XDP, else
 * in the stack.
 */
export const XDP_FLAGS = { auto: 0, native: 1 << 2, generic: 1 << 1 } as const satisfies Record<XdpMode, number>;

/** include/uapi/linux/if_link.h */
const IFLA_XDP = 43;
/** The attribute with the program id of each mode: IFLA_XDP_DRV_PROG_ID, IFLA_XDP_HW_PROG_ID, IFLA_XDP_SKB_PROG_ID. */
const PROGRAM_ID = { native: 5, offloaded: 7, generic: 6 } as const satisfies Record<XdpRunMode, number>;

/**
 * The ids of the programs at an interface's XDP hook, ours and foreign ones, by where they run: at most one for each
 * mode.
 */
export function xdpPrograms(ifindex: number): ReadonlyMap<XdpRunMode, number> {
  const info = interfaceInfo(ifindex);
  // An interface that was removed in the meantime has none.
  return info === undefined ? new Map() : xdpProgramsIn(info);
}

/** {@link xdpPrograms}, of what the kernel has said before. */
export function xdpProgramsIn({ attributes }: InterfaceInfo): ReadonlyMap<XdpRunMode, number> {
  const xdp = attribute(attributes, IFLA_XDP) ?? Buffer.alloc(0);
  const modes = Object.entries(PROGRAM_ID) as [XdpRunMode, number][];
  return new Map(
    modes.flatMap(([mode, type]) => {
      const id = attribute(xdp, type)?.readUInt32LE() ?? 0;
      return id === 0 ? [] : [[mode, id] as const];
    }),
  );
}
