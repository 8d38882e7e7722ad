import { attribute, list } from '../abi/netlink.js';
import { TCMSG } from '../abi/structs.js';

/*
 * The queueing disciplines of an interface and their filters.
 */

/** include/uapi/linux/rtnetlink.h */
const [RTM_GETQDISC, RTM_GETTFILTER] = [38, 46];
const [TCA_KIND, TCA_OPTIONS] = [1, 2];
/** include/uapi/linux/pkt_cls.h */
const TCA_BPF_ID = 11;
const TC_U32_NODE = 0xfff;

/** include/uapi/linux/pkt_sched.h: where a qdisc is attached, and the two filter blocks of clsact. */
export const TC_H_ROOT = 0xffffffff;
export const TC_H_CLSACT = 0xfffffff1;
const CLSACT_BLOCK = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const;

export interface Qdisc {
  /** `clsact`, `ingress`, `htb`, … */
  readonly kind: string;
  /** Major and minor number in one: 0x10000 for `1:`. */
  readonly handle: number;
  /** {@link TC_H_ROOT}; {@link TC_H_CLSACT}, for `ingress` too; or the class to which it is attached. */
  readonly parent: number;
}

export function qdiscsOf(ifindex: number): Qdisc[] {
  return list(RTM_GETQDISC, tcmsg(0, 0)).flatMap((message) => {
    if (TCMSG.read(message, 'tcm_ifindex') !== ifindex) return [];
    const kind = textOf(attribute(message.subarray(TCMSG.size), TCA_KIND));
    return [{ kind, handle: TCMSG.read(message, 'tcm_handle'), parent: TCMSG.read(message, 'tcm_parent') }];
  });
}

/** Indexes of the interfaces that have a clsact or an ingress qdisc, where filters can be. */
export function interfacesWithFilters(): ReadonlySet<number> {
  const messages = list(RTM_GETQDISC, tcmsg(0, 0)).filter(
    (message) => TCMSG.read(message, 'tcm_parent') === TC_H_CLSACT,
  );
  return new Set(messages.map((message) => TCMSG.read(message, 'tcm_ifindex')));
}

/** Whether the clsact qdisc of an interface has any filter, of either direction and any kind. */
export function clsactHasFilters(ifindex: number): boolean {
  return Object.values(CLSACT_BLOCK).some((parent) => list(RTM_GETTFILTER, tcmsg(ifindex, parent)).length > 0);
}

export interface Filter {
  /** `bpf`, `flower`, `u32`, … */
  readonly kind: string;
  /** Id of its BPF program; 0 for other kinds. */
  readonly programId: number;
}

/** The filters of one direction of the clsact qdisc, in the order in which packets pass them. */
export function clsactFilters(ifindex: number, direction: keyof typeof CLSACT_BLOCK): Filter[] {
  return list(RTM_GETTFILTER, tcmsg(ifindex, CLSACT_BLOCK[direction])).flatMap((message) => {
    const handle = TCMSG.read(message, 'tcm_handle');
    const attributes = message.subarray(TCMSG.size);
    const kind = textOf(attribute(attributes, TCA_KIND));
    // One message for each priority comes before its filters, without a handle. So do the hash tables of u32, whose
    // handles have no node (TC_U32_NODE of include/uapi/linux/pkt_cls.h).
    if (handle === 0 || (kind === 'u32' && (handle & TC_U32_NODE) === 0)) return [];
    const options = attribute(attributes, TCA_OPTIONS) ?? Buffer.alloc(0);
    // Other kinds use the number of the attribute for something else.
    const programId = kind === 'bpf' ? (attribute(options, TCA_BPF_ID)?.readUInt32LE() ?? 0) : 0;
    return [{ kind, programId }];
  });
}

function textOf(value: Buffer | undefined): string {
  return value?.toString('latin1').replace('\0', '') ?? '';
}

function tcmsg(ifindex: number, parent: number): Buffer {
  return TCMSG.make({ tcm_ifindex: ifindex, tcm_parent: parent });
}
