import { hostname } from 'node:os';
import type { z } from 'zod';
import { COMPANION_SETTINGS } from './companions.js';
import { ROOT_SETTINGS } from './roots.js';
import type { SettingNames } from './sources.js';
import * as value from './values.js';

/** Everything about one setting except its names, which follow from its key in the table. */
export interface Definition {
  readonly schema: z.ZodType<unknown, string | undefined>;
  /** As in `--nats-url <url>`. */
  readonly placeholder: string;
  readonly description: string;
  /** As text, which the schema checks like any other. */
  readonly default?: string | (() => string);
  /** Describes a default that is not a constant. */
  readonly absent?: string;
  /** A value for the example file, for settings without a constant default. */
  readonly example?: string;
  /** Removes what must not be shown from a text. */
  readonly redact?: (text: string) => string;
  /** False if the file cannot contain the setting. */
  readonly inFile?: false;
}

/** The one table of settings. Flags, environment, file, help and the operators' documentation all follow it. */
const TABLE = {
  config: {
    schema: value.path.optional(),
    placeholder: 'file',
    description: 'configuration file (YAML)',
    absent: 'none',
    inFile: false,
  },
  nats_url: {
    schema: value.servers.optional(),
    placeholder: 'url',
    description: 'addresses of the NATS servers, separated by commas; without any, the agent starts an embedded server',
    absent: 'embedded server',
    example: 'nats://broker.example:4222',
    redact: value.redactUrls,
  },
  nats_creds: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'credentials file (JWT and seed) for the NATS servers',
    absent: 'none',
    example: '/etc/l3af-agent/agent.creds',
    redact: value.redactSecret,
  },
  nats_nkey: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'file with the NKey seed for the NATS servers',
    absent: 'none',
    example: '/etc/l3af-agent/agent.nk',
    redact: value.redactSecret,
  },
  nats_user_file: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'file with the name of the user for the NATS servers; together with nats_password_file',
    absent: 'none',
    example: '/etc/l3af-agent/nats-user',
    redact: value.redactSecret,
  },
  nats_password_file: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'file with the password of nats_user_file',
    absent: 'none',
    example: '/etc/l3af-agent/nats-password',
    redact: value.redactSecret,
  },
  nats_token_file: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'file with the token for the NATS servers',
    absent: 'none',
    example: '/etc/l3af-agent/nats-token',
    redact: value.redactSecret,
  },
  nats_tls_ca: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'certificate authorities (PEM) for verifying the NATS servers',
    absent: "the system's",
    example: '/etc/l3af-agent/ca.pem',
    redact: value.redactSecret,
  },
  nats_tls_cert: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'client certificate (PEM) for the NATS servers',
    absent: 'none',
    example: '/etc/l3af-agent/agent.pem',
    redact: value.redactSecret,
  },
  nats_tls_key: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'private key (PEM) of the client certificate',
    absent: 'none',
    example: '/etc/l3af-agent/agent.key',
    redact: value.redactSecret,
  },
  nats_tls_handshake_first: {
    schema: value.yesOrNo,
    placeholder: 'bool',
    description: 'begin with the TLS handshake, as NATS servers with handshake_first demand',
    default: 'false',
  },
  host_name: {
    schema: value.hostName,
    placeholder: 'name',
    description: "the host's name, as in host_name of commands",
    default: hostname,
    absent: "the system's host name",
    example: 'web1.example',
  },
  host_id: {
    schema: value.hostId.optional(),
    placeholder: 'token',
    description: "the host's token in subjects, for a host name that is not lower-case RFC 1123",
    absent: 'derived from host_name',
    example: 'web1_example',
  },
  labels: {
    schema: value.labels,
    placeholder: 'labels',
    description:
      'labels of this host for the fleet, as name=value pairs separated by commas; shown in its registration',
    default: () => '',
    absent: 'none',
    example: 'rack=a1,role=edge',
  },
  prefix: {
    schema: value.subjectPrefix,
    placeholder: 'subject',
    description: 'prefix of every subject',
    default: 'l3af',
  },
  js_api_prefix: {
    schema: value.systemSubjectPrefix.optional(),
    placeholder: 'subject',
    description: 'subject of the JetStream API, if it is imported from another account',
    absent: '$JS.API',
    example: '$JS.API',
  },
  inbox_prefix: {
    schema: value.systemSubjectPrefix.optional(),
    placeholder: 'subject',
    description: "prefix of reply subjects, if the host's permissions require one",
    absent: '_INBOX',
    example: '_INBOX',
  },
  state_dir: {
    schema: value.path,
    placeholder: 'dir',
    description: 'directory of the journal and the package cache',
    default: '/var/lib/l3af-agent',
  },
  bpffs: {
    schema: value.path,
    placeholder: 'dir',
    description: 'where the BPF file system is mounted',
    default: '/sys/fs/bpf',
  },
  repo_url: {
    schema: value.repository.optional(),
    placeholder: 'url',
    description: 'package repository for programs that name none (http, https, file or nats://<bucket>)',
    absent: 'none',
    example: 'https://packages.example/l3af',
    redact: value.redactUrls,
  },
  repo_tls_ca: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'certificate authorities (PEM) for verifying https package repositories',
    absent: "the system's",
    example: '/etc/l3af-agent/repo-ca.pem',
    redact: value.redactSecret,
  },
  signature_policy: {
    schema: value.oneOf('off', 'if-present', 'required'),
    placeholder: 'policy',
    description: 'whether packages must be signed; if-present checks only signed packages',
    default: 'off',
  },
  trusted_keys: {
    schema: value.trustedKeys.optional(),
    placeholder: 'keys',
    description: 'public keys for verifying signatures of packages, or files that contain them, separated by commas',
    absent: 'none',
    example: '/etc/l3af-agent/packages.pub',
    redact: value.redactSecret,
  },
  platform: {
    schema: value.platform.optional(),
    placeholder: 'name',
    description: "the host's platform in package paths",
    absent: 'codename of the distribution',
    example: 'bookworm',
  },
  ...COMPANION_SETTINGS,
  chaining: {
    schema: value.yesOrNo,
    placeholder: 'bool',
    description: 'several programs per hook behind a root program; false: one program per hook, attached directly',
    default: 'true',
  },
  datapath: {
    schema: value.oneOf('libbpf', 'memory'),
    placeholder: 'kind',
    description: 'libbpf uses the kernel; memory only simulates it, for trials',
    default: 'libbpf',
  },
  max_map_bytes: {
    schema: value.size,
    placeholder: 'size',
    description: "how much of the kernel's memory the maps of one program may take",
    default: '1GiB',
  },
  xdp_mode: {
    schema: value.oneOf('auto', 'native', 'generic'),
    placeholder: 'mode',
    description: 'how XDP is attached: in the driver, in the network stack, or in the driver if it supports that',
    default: 'auto',
  },
  tc_mode: {
    schema: value.oneOf('auto', 'tcx', 'clsact'),
    placeholder: 'mode',
    description: 'how TC is attached: by TCX link, by clsact filter, or by TCX if the kernel supports it',
    default: 'auto',
  },
  run_stats: {
    schema: value.yesOrNo,
    placeholder: 'bool',
    description: 'make the kernel count packets and time of every BPF program of the machine; costs 20 ns per run',
    default: 'false',
  },
  ...ROOT_SETTINGS,
  metrics_addr: {
    schema: value.listenAddress,
    placeholder: 'address',
    description: 'address that serves /metrics and /healthz; off: none',
    default: '127.0.0.1:8898',
  },
  snapshot_interval: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'time between two snapshots of the state',
    default: '60s',
  },
  monitor_interval: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'time between two readings of the maps in monitor_maps',
    default: '1s',
  },
  monitor_samples: {
    schema: value.windowSize,
    placeholder: 'number',
    description: 'how many of the last readings of a map avg, min, p95, rate and max-rate use',
    default: '20',
  },
  metrics_interval: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'time between two publications of the metrics',
    default: '10s',
  },
  reconcile_interval: {
    schema: value.duration,
    placeholder: 'duration',
    description: 'time between two comparisons of desired and observed state',
    default: '10s',
  },
  log_level: {
    schema: value.oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    placeholder: 'level',
    description: 'lowest level of messages that are logged',
    default: 'info',
  },
} as const satisfies Record<string, Definition>;

type Table = typeof TABLE;
type CamelCase<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

/** The settings as the agent uses them, named in camel case. Durations are in milliseconds, paths are absolute. */
export type Config = { readonly [K in keyof Table as CamelCase<K>]: z.output<Table[K]['schema']> };

/** A row of the table for help and documentation. */
export interface Setting extends SettingNames {
  readonly placeholder: string;
  readonly description: string;
  /** The constant default. If it is undefined, {@link absent} describes the default. */
  readonly default: string | undefined;
  readonly absent: string | undefined;
  readonly example: string | undefined;
}

/** The table's rows, in its order. */
export const DEFINITIONS: readonly (readonly [name: string, definition: Definition])[] = Object.entries(TABLE);

export const SETTINGS: readonly Setting[] = DEFINITIONS.map(([name, definition]) => ({
  name,
  property: camelCase(name),
  flag: `--${name.replaceAll('_', '-')}`,
  env: `L3AF_${name.toUpperCase()}`,
  inFile: definition.inFile ?? true,
  placeholder: definition.placeholder,
  description: definition.description,
  default: typeof definition.default === 'string' ? definition.default : undefined,
  absent: definition.absent,
  example: definition.example,
}));

/** `nats_url` as a property: `natsUrl`. */
export function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
