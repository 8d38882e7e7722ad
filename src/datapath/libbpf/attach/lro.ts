import koffi from 'koffi';
import { ENODEV, EOPNOTSUPP, kernelError } from '../abi/errno.js';
import { Fd } from '../abi/fd.js';
import { lastErrno, libc } from '../abi/ffi.js';
import { interfaceNotFound } from '../abi/interfaces.js';
import { ETHTOOL_VALUE, IFREQ } from '../abi/structs.js';

/*
 * Large receive offload (LRO): the driver joins segments into one large packet before anything else sees them. XDP
 * programs must see the packets as they arrived, so with LRO on, drivers refuse XDP or misbehave
 * (Documentation/networking/netdev-features.rst).
 */

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** include/uapi/linux/sockios.h */
const SIOCETHTOOL = 0x8946;
/** include/uapi/linux/ethtool.h */
const [ETHTOOL_GFLAGS, ETHTOOL_SFLAGS] = [0x25, 0x26];

/** Bits of `enum ethtool_flags`: offloads that are switched by flags. */
export const OFFLOAD = { lro: 1 << 15, rxVlan: 1 << 8 } as const;

/**
 * Switches LRO off before XDP is attached, as l3afd does. If an interface has no LRO, or its driver cannot switch it,
 * the kernel decides when the program is attached. LRO stays off when the program is removed, since others may rely on
 * that.
 *
 * @throws AgentError ATTACH_FAILED, INTERFACE_NOT_FOUND
 */
export function disableLro(iface: string): void {
  switchOff(iface, OFFLOAD.lro, 'large receive offload');
}

/** @param name of the offload, for messages */
export function switchOff(iface: string, offload: number, name: string): void {
  const flags = ethtool(iface, ETHTOOL_GFLAGS, 0);
  if (typeof flags === 'number' && (flags & offload) === 0) return;
  const result = typeof flags === 'number' ? ethtool(iface, ETHTOOL_SFLAGS, flags & ~offload) : flags;
  if (typeof result === 'number' || result.errno === EOPNOTSUPP) return;
  if (result.errno === ENODEV) throw interfaceNotFound(iface);
  const failed = `XDP needs the ${name} of ${iface} to be off, and it cannot be switched off`;
  throw kernelError(failed, result.errno, 'ATTACH_FAILED');
}

/** One request with a `struct ethtool_value`. @returns its value afterwards, or the errno */
function ethtool(iface: string, command: number, value: number): number | { readonly errno: number } {
  const request = ETHTOOL_VALUE.make({ cmd: command, data: value });
  const ifreq = IFREQ.make({ 'ifr_ifru.ifru_data': koffi.address(request) });
  ifreq.write(iface, IFREQ.offsetOf('ifr_ifrn.ifrn_name'), 'latin1');
  const socket = libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw kernelError('Cannot open a socket to query offloads', lastErrno());
  using opened = new Fd(socket);
  if (libc().ioctl(opened.number, SIOCETHTOOL, ifreq) < 0) return { errno: lastErrno() };
  return ETHTOOL_VALUE.read(request, 'data');
}
