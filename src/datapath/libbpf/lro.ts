import koffi from 'koffi';
import { ENODEV, EOPNOTSUPP, kernelError } from './errno.js';
import { Fd } from './fd.js';
import { lastErrno, libc } from './ffi.js';
import { interfaceNotFound } from './interfaces.js';

/*
 * Large receive offload: a driver that puts segments together into one large packet before anybody sees them. XDP programs are to see
 * packets as they came, so drivers refuse XDP, or do worse, while it is on (Documentation/networking/netdev-features.rst).
 */

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
/** include/uapi/linux/sockios.h */
const SIOCETHTOOL = 0x8946;
/** include/uapi/linux/ethtool.h */
const [ETHTOOL_GFLAGS, ETHTOOL_SFLAGS] = [0x25, 0x26];
const IFNAMSIZ = 16;

/** Bits of `enum ethtool_flags`: the offloads that can be switched by one word. */
export const OFFLOAD = { lro: 1 << 15, rxVlan: 1 << 8 } as const;

/**
 * Switches LRO off, as l3afd does before it attaches XDP. An interface that has none, or whose driver cannot switch it, is left to what
 * the kernel says to the program. It stays off when the program goes: nobody knows who relied on what.
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
  const failed = `The ${name} of ${iface} cannot be switched off, which XDP needs`;
  throw kernelError(failed, result.errno, 'ATTACH_FAILED');
}

/** One request with a `struct ethtool_value`. @returns its value afterwards, or what went wrong */
function ethtool(iface: string, command: number, value: number): number | { readonly errno: number } {
  const request = Buffer.alloc(8); // struct ethtool_value
  request.writeUInt32LE(command, 0);
  request.writeUInt32LE(value, 4);
  const ifreq = Buffer.alloc(40); // struct ifreq
  ifreq.write(iface, 'latin1');
  ifreq.writeBigUInt64LE(koffi.address(request), IFNAMSIZ);
  const socket = libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw kernelError('Cannot open a socket to ask about offloads', lastErrno());
  using opened = new Fd(socket);
  if (libc().ioctl(opened.number, SIOCETHTOOL, ifreq) < 0) return { errno: lastErrno() };
  return request.readUInt32LE(4);
}
