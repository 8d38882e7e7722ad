import type { AttachPoint } from './attach-point.js';

/*
 * cgroup_skb: the packets of the sockets in a control group (version 2) and in the groups below it. The kernel runs all
 * programs at a hook. A packet passes if all of them let it pass (bpf_prog_run_array_cg in kernel/bpf/cgroup.c).
 */

const CGROUP_SKB = {
  target: 'cgroup',
  programType: 'cgroup_skb',
  order: 'detected',
  lacksOrder: 'this kernel runs the programs of a control group in the order of their attachment (until Linux 6.17)',
  attachments: ['cgroup'],
} as const;

export const CGROUP_SKB_INGRESS = {
  ...CGROUP_SKB,
  payloadList: 'cgroup_skb_ingress',
  sections: /^cgroup(?:_skb\/ingress|\/skb)$/,
  programs: 'cgroup_skb programs with the expected attach type BPF_CGROUP_INET_INGRESS',
  mapFolder: 'cgroup/ingress',
  root: {
    name: 'cgroup-skb-root',
    object: 'cgroup_skb_root',
    entryFunction: 'cgroup_skb_ingress_root',
    slotMap: 'cgroup_skb_ingress_root_array',
  },
  snapshotList: 'CgroupSkbIngressBpfs',
} as const satisfies AttachPoint;

export const CGROUP_SKB_EGRESS = {
  ...CGROUP_SKB,
  payloadList: 'cgroup_skb_egress',
  sections: /^cgroup(?:_skb\/egress|\/skb)$/,
  programs: 'cgroup_skb programs with the expected attach type BPF_CGROUP_INET_EGRESS',
  mapFolder: 'cgroup/egress',
  root: {
    name: 'cgroup-skb-root',
    object: 'cgroup_skb_root',
    entryFunction: 'cgroup_skb_egress_root',
    slotMap: 'cgroup_skb_egress_root_array',
  },
  snapshotList: 'CgroupSkbEgressBpfs',
} as const satisfies AttachPoint;
