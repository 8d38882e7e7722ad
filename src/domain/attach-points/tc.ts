import type { AttachPoint } from './attach-point.js';

/*
 * TC: both directions of an interface, with TCX links (Linux 6.6) or with filters of a clsact qdisc. As in l3afd, the
 * programs of one name and version share one folder of public map names for both directions.
 */

const TC = {
  target: 'interface',
  programType: 'tc',
  programs: 'TC programs with the expected attach type 0',
  order: 'detected',
  lacksOrder: 'this host attaches TC programs by filter; only TCX links work without map_name',
  attachments: ['tcx', 'clsact'],
  mapFolder: 'tc/globals',
} as const;

export const TC_INGRESS = {
  ...TC,
  payloadList: 'tc_ingress',
  sections: /^(?:tc|tcx?\/ingress|classifier|action)$/,
  root: {
    name: 'tc-root',
    object: 'tc_root',
    entryFunction: 'tc_ingress_root',
    slotMap: 'tc_ingress_root_array',
  },
  snapshotList: 'IngressTCBpfs',
} as const satisfies AttachPoint;

export const TC_EGRESS = {
  ...TC,
  payloadList: 'tc_egress',
  sections: /^(?:tc|tcx?\/egress|classifier|action)$/,
  root: { name: 'tc-root', object: 'tc_root', entryFunction: 'tc_egress_root', slotMap: 'tc_egress_root_array' },
  snapshotList: 'EgressTCBpfs',
} as const satisfies AttachPoint;
