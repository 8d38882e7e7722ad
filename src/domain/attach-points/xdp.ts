import type { AttachPoint } from './attach-point.js';

/** XDP: in the driver of an interface, or right after it, before the network stack processes the packet. */
export const XDP = {
  target: 'interface',
  payloadList: 'xdp_ingress',
  programType: 'xdp',
  sections: /^xdp/,
  programs: 'XDP programs with the expected attach type BPF_XDP',
  order: 'never',
  attachments: ['xdp'],
  mapFolder: '',
  root: { name: 'xdp-root', object: 'xdp_root', entryFunction: 'xdp_root', slotMap: 'xdp_root_array' },
  snapshotList: 'IngressXDPBpfs',
} as const satisfies AttachPoint;
