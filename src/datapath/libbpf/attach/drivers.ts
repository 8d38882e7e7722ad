import type { AttachPointName } from '../../../domain/hook.js';
import { cgroupSkbDriver } from './cgroup-skb.js';
import type { AttachDriver } from './driver.js';
import { netkitDriver } from './netkit.js';
import { tcDriver } from './tc.js';
import { xdpDriver } from './xdp.js';

/** The driver of each attach point. */
export const ATTACH_DRIVERS: Readonly<Record<AttachPointName, AttachDriver>> = {
  xdpingress: xdpDriver,
  ingress: tcDriver('ingress'),
  egress: tcDriver('egress'),
  netkit_primary: netkitDriver('primary'),
  netkit_peer: netkitDriver('peer'),
  cgroup_skb_ingress: cgroupSkbDriver('ingress'),
  cgroup_skb_egress: cgroupSkbDriver('egress'),
};
