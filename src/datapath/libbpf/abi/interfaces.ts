import { AgentError } from '../../../errors.js';
import { ENODEV, kernelError } from './errno.js';
import { libc } from './ffi.js';
import { ask, attribute, list } from './netlink.js';
import { IFINFOMSG, NLATTR } from './structs.js';

/*
 * Network interfaces of the process's namespace. Not read from /sys/class/net, which shows the namespace in which it
 * was mounted.
 */

/** include/uapi/linux/rtnetlink.h and if_link.h */
const RTM_GETLINK = 18;
const [IFLA_IFNAME, IFLA_EXT_MASK] = [3, 29];
/** Leaves out the counters of packets, which are half of each message. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3;

/** What the kernel says about an interface. */
export interface InterfaceInfo {
  readonly name: string;
  readonly index: number;
  /** `IFLA_…`, for {@link attribute}. */
  readonly attributes: Buffer;
}

/** All interfaces, by one request. @throws AgentError KERNEL */
export function listInterfaces(): InterfaceInfo[] {
  return list(RTM_GETLINK, getLink(0)).map(infoIn);
}

/** One interface; undefined if it does not exist. @throws AgentError KERNEL */
export function interfaceInfo(index: number): InterfaceInfo | undefined {
  const answer = ask(RTM_GETLINK, getLink(index));
  if (typeof answer !== 'number') return infoIn(answer);
  if (answer === -ENODEV) return undefined;
  throw kernelError(`Cannot read the interface with index ${index}`, answer);
}

/** Interface name to index. */
export function interfaces(): ReadonlyMap<string, number> {
  return new Map(listInterfaces().map(({ name, index }) => [name, index]));
}

function getLink(index: number): Buffer {
  const mask = Buffer.alloc(4);
  mask.writeUInt32LE(RTEXT_FILTER_SKIP_STATS);
  const header = NLATTR.make({ nla_len: NLATTR.size + mask.length, nla_type: IFLA_EXT_MASK });
  return Buffer.concat([IFINFOMSG.make({ ifi_index: index }), header, mask]);
}

function infoIn(message: Buffer): InterfaceInfo {
  const attributes = message.subarray(IFINFOMSG.size);
  const name = attribute(attributes, IFLA_IFNAME)?.toString('utf8').replace('\0', '') ?? '';
  return { name, index: IFINFOMSG.read(message, 'ifi_index'), attributes };
}

/** @throws AgentError INTERFACE_NOT_FOUND */
export function interfaceIndex(iface: string): number {
  const index = libc().if_nametoindex(iface);
  if (index === 0) throw interfaceNotFound(iface);
  return index;
}

export function interfaceNotFound(iface: string): AgentError {
  return new AgentError('INTERFACE_NOT_FOUND', `This host has no interface ${iface}`);
}
