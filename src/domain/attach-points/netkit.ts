import type { AttachPoint } from './attach-point.js';

/*
 * netkit (Linux 6.7): the pair of devices between a host and a container, with programs instead of qdiscs. Both hooks
 * belong to the primary device, which is the host's: one for what it sends to its peer, one for what the peer sends.
 * Programs have TC's type and run like TCX's.
 */

const NETKIT = {
  target: 'interface',
  programType: 'tc',
  programs: 'TC programs with the expected attach type 0',
  order: 'always',
  attachments: ['netkit'],
} as const;

export const NETKIT_PRIMARY = {
  ...NETKIT,
  payloadList: 'netkit_primary',
  sections: /^netkit\/primary$/,
  mapFolder: 'netkit/primary',
  root: {
    name: 'netkit-root',
    object: 'tc_root',
    entryFunction: 'tc_ingress_root',
    slotMap: 'tc_ingress_root_array',
  },
  snapshotList: 'NetkitPrimaryBpfs',
} as const satisfies AttachPoint;

export const NETKIT_PEER = {
  ...NETKIT,
  payloadList: 'netkit_peer',
  sections: /^netkit\/peer$/,
  mapFolder: 'netkit/peer',
  root: { name: 'netkit-root', object: 'tc_root', entryFunction: 'tc_egress_root', slotMap: 'tc_egress_root_array' },
  snapshotList: 'NetkitPeerBpfs',
} as const satisfies AttachPoint;
