import { payloadProgram } from '../support/packages.js';

/** Packets to this port are dropped once the rule is applied. */
export const UNWANTED_PORT = 7777;
export const SERVICE_PORT = 8080;
/** SIP. Its outgoing packets are marked for expedited forwarding (RFC 3246). */
export const VOICE_PORT = 5060;
export const EXPEDITED = 46;
/** Packets per second, far more than the demo sends. */
const RATE_LIMIT = 50_000;

export const HOST = 'demo-host';

export interface Wishes {
  readonly dropUnwanted?: boolean;
  readonly portDropVersion?: '1.0' | '2.0';
  readonly withBroken?: boolean;
}

/** The payload of a deploy: three XDP programs, and one TC program in each direction. */
export function chainPayload(iface: string, wishes: Wishes = {}): unknown {
  const drops = wishes.dropUnwanted ? [{ name: 'drop_ports', args: [{ key: UNWANTED_PORT, value: 1 }] }] : [];
  return [
    {
      host_name: HOST,
      iface,
      ipv4_address: '',
      bpf_programs: {
        xdp_ingress: [
          payloadProgram('port-count', { seq_id: 1 }),
          payloadProgram('port-drop', { seq_id: 2, version: wishes.portDropVersion ?? '1.0', map_args: drops }),
          payloadProgram('rate-limit', {
            seq_id: 3,
            map_args: [{ name: 'rate_limit_config', args: [{ key: 0, value: RATE_LIMIT }] }],
          }),
          ...(wishes.withBroken ? [payloadProgram('broken', { seq_id: 4 })] : []),
        ],
        tc_ingress: [payloadProgram('tc-count', { seq_id: 1 })],
        tc_egress: [
          payloadProgram('dscp-mark', {
            seq_id: 1,
            map_args: [{ name: 'dscp_ports', args: [{ key: VOICE_PORT, value: EXPEDITED }] }],
          }),
        ],
      },
    },
  ];
}

/** The payload of a delete that names all of them. */
export function namesPayload(iface: string): unknown {
  const names = {
    xdp_ingress: ['port-count', 'port-drop', 'rate-limit'],
    tc_ingress: ['tc-count'],
    tc_egress: ['dscp-mark'],
  };
  return [{ host_name: HOST, iface, bpf_programs: names }];
}
