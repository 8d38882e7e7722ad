import { attribute, list } from './netlink.js';

/*
 * The queueing disciplines of an interface and the filters that hang there.
 */

/** include/uapi/linux/rtnetlink.h */
const [RTM_GETQDISC, RTM_GETTFILTER] = [38, 46];
const TCA_KIND = 1;
/** Of `struct tcmsg`. */
const TCMSG = 20;
const IFINDEX = 4;
const HANDLE = 8;
const PARENT = 12;

/** include/uapi/linux/pkt_sched.h: where a qdisc hangs, and the two blocks of filters of clsact. */
export const TC_H_ROOT = 0xffffffff;
export const TC_H_CLSACT = 0xfffffff1;
const CLSACT_BLOCKS = [0xfffffff2, 0xfffffff3];

export interface Qdisc {
  /** `clsact`, `ingress`, `htb`, … */
  readonly kind: string;
  /** Its two numbers in one: 0x10000 for `1:`. */
  readonly handle: number;
  /** {@link TC_H_ROOT}, {@link TC_H_CLSACT}, which `ingress` has too, or the class that it hangs under. */
  readonly parent: number;
}

export function qdiscsOf(ifindex: number): Qdisc[] {
  return list(RTM_GETQDISC, tcmsg(0, 0)).flatMap((message) => {
    if (message.readInt32LE(IFINDEX) !== ifindex) return [];
    const kind = attribute(message.subarray(TCMSG), TCA_KIND)?.toString('latin1').replace('\0', '') ?? '';
    return [{ kind, handle: message.readUInt32LE(HANDLE), parent: message.readUInt32LE(PARENT) }];
  });
}

/** Whether anybody has a filter at the clsact qdisc of an interface, of either direction and of whichever kind. */
export function clsactHasFilters(ifindex: number): boolean {
  return CLSACT_BLOCKS.some((parent) => list(RTM_GETTFILTER, tcmsg(ifindex, parent)).length > 0);
}

function tcmsg(ifindex: number, parent: number): Buffer {
  const message = Buffer.alloc(TCMSG);
  message.writeInt32LE(ifindex, IFINDEX);
  message.writeUInt32LE(parent, PARENT);
  return message;
}
