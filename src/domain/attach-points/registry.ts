import type { AttachPoint } from './attach-point.js';
import { CGROUP_SKB_EGRESS, CGROUP_SKB_INGRESS } from './cgroup-skb.js';
import { NETKIT_PEER, NETKIT_PRIMARY } from './netkit.js';
import { TC_EGRESS, TC_INGRESS } from './tc.js';
import { XDP } from './xdp.js';

/**
 * All attach points by name, which is the `direction` of hooks. The names are l3afd's where it has them. The order is
 * the one in which a packet that comes in and goes out again passes them.
 */
export const ATTACH_POINTS = {
  xdpingress: XDP,
  ingress: TC_INGRESS,
  egress: TC_EGRESS,
  netkit_primary: NETKIT_PRIMARY,
  netkit_peer: NETKIT_PEER,
  cgroup_skb_ingress: CGROUP_SKB_INGRESS,
  cgroup_skb_egress: CGROUP_SKB_EGRESS,
} as const satisfies Readonly<Record<string, AttachPoint>>;
