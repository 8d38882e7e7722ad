/** Payloads for the tests of this folder. */

export const HOST = 'web1';

export type Fields = Record<string, unknown>;

/** A program with only the required fields. */
export function program(fields: Fields = {}): Fields {
  return {
    name: 'ratelimiting',
    seq_id: 1,
    artifact: 'l3af_ratelimiting.tar.gz',
    version: '1.0',
    object_file: 'ratelimiting.bpf.o',
    entry_function_name: '_xdp_ratelimiting',
    ...fields,
  };
}

/** One interface with the given programs on its XDP chain. */
export function onXdp(...programs: readonly unknown[]): Fields[] {
  return [{ host_name: HOST, iface: 'eth1', bpf_programs: { xdp_ingress: programs } }];
}

/** A program as l3afd's own serializer writes it: every field, with Go's zero values. */
export const GO_PROGRAM: Readonly<Fields> = {
  id: 0,
  name: 'ratelimiting',
  seq_id: 1,
  artifact: 'l3af_ratelimiting.tar.gz',
  map_name: 'xdp_rl_ingress_next_prog',
  cmd_start: '',
  cmd_stop: '',
  cmd_status: '',
  cmd_config: '',
  cmd_update: '',
  version: 'latest',
  user_program_daemon: false,
  is_plugin: false,
  cpu: 0,
  memory: 0,
  admin_status: 'enabled',
  prog_type: 'xdp',
  rules_file: '',
  rules: '',
  config_file_path: '',
  cfg_version: 1,
  start_args: null,
  stop_args: null,
  status_args: {},
  update_args: null,
  map_args: [{ name: 'rl_ports_map', args: [{ key: 8080, value: 1 }] }],
  config_args: null,
  monitor_maps: [
    { name: 'rl_drop_count_map', key: 0, aggregator: 'scalar' },
    { name: 'rl_recv_count_map', key: 0, aggregator: 'max-rate' },
  ],
  ebpf_package_repo_url: '',
  object_file: 'ratelimiting_kern.o',
  entry_function_name: '_xdp_ratelimiting',
};

/** A deploy for two interfaces and all three chains. */
export const FLEET_PAYLOAD: readonly unknown[] = [
  {
    host_name: HOST,
    iface: 'eth1',
    ipv4_address: '10.0.0.7',
    bpf_programs: {
      xdp_ingress: [
        program({ name: 'connection-limit', seq_id: 2, version: 'latest', prog_type: 'xdp', cfg_version: 1 }),
        GO_PROGRAM,
      ],
      tc_ingress: [program({ name: 'ipfix-flow-exporter', prog_type: 'tc', monitor_maps: null })],
      tc_egress: [program({ name: 'ipfix-flow-exporter', prog_type: 'tc', admin_status: 'disabled' })],
      probes: null,
    },
  },
  { host_name: HOST, iface: 'eth2.100', ipv4_address: '', bpf_programs: { xdp_ingress: [program()], tc_ingress: [] } },
  { host_name: HOST, iface: 'eth3', bpf_programs: null },
];

export const DELETE_PAYLOAD: readonly unknown[] = [
  {
    host_name: HOST,
    iface: 'eth1',
    bpf_programs: { xdp_ingress: ['connection-limit'], tc_ingress: null, tc_egress: ['ipfix-flow-exporter'] },
  },
];

export function bytes(payload: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(payload));
}
