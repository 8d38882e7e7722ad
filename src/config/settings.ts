import { hostname } from 'node:os';
import type { z } from 'zod';
import { COMPANION_SETTINGS } from './companions.js';
import { ROOT_SETTINGS } from './roots.js';
import type { SettingNames } from './sources.js';
import * as value from './values.js';

/** Everything about one setting but its names, which all follow from its key in the table. */
export interface Definition {
  readonly schema: z.ZodType<unknown, string | undefined>;
  /** In the manner of `--nats-url <url>`. */
  readonly placeholder: string;
  readonly description: string;
  /** As text that goes through the schema like any other. */
  readonly default?: string | (() => string);
  /** In words, where the default is not a constant. */
  readonly absent?: string;
  /** A value for the example file, for settings without a constant default. */
  readonly example?: string;
  /** Takes out of a text what must not be shown. */
  readonly redact?: (text: string) => string;
  /** False for what the file cannot say about itself. */
  readonly inFile?: false;
}

/** The one table of settings: flags, environment, file, help and the operators' documentation all follow it. */
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
    description: 'addresses of the NATS servers, joined by commas; without any the agent starts a server of its own',
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
    description: 'file with the NKey seed for the NATS servers; not together with nats_creds',
    absent: 'none',
    example: '/etc/l3af-agent/agent.nk',
    redact: value.redactSecret,
  },
  nats_tls_ca: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'certificate authorities (PEM) that the NATS servers are verified with',
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
  host_name: {
    schema: value.hostName,
    placeholder: 'name',
    description: "the host's name, as commands carry it in host_name",
    default: hostname,
    absent: "the system's host name",
    example: 'web1.example',
  },
  host_id: {
    schema: value.hostId.optional(),
    placeholder: 'token',
    description: "the host's place in subjects, for a host name that is not lower-case RFC 1123",
    absent: 'made of host_name',
    example: 'web1_example',
  },
  labels: {
    schema: value.labels,
    placeholder: 'labels',
    description: 'what the fleet calls this host by, as name=value pairs joined by commas; shown in its registration',
    default: () => '',
    absent: 'none',
    example: 'rack=a1,role=edge',
  },
  prefix: {
    schema: value.subjectPrefix,
    placeholder: 'subject',
    description: 'beginning of every subject',
    default: 'l3af',
  },
  js_api_prefix: {
    schema: value.systemSubjectPrefix.optional(),
    placeholder: 'subject',
    description: 'subject of the JetStream API, where it is imported from another account',
    absent: '$JS.API',
    example: '$JS.API',
  },
  inbox_prefix: {
    schema: value.systemSubjectPrefix.optional(),
    placeholder: 'subject',
    description: "beginning of the subjects of replies, where the host's permissions name one",
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
    description: 'package repository of programs that name none (http, https, file or nats://<bucket>)',
    absent: 'none',
    example: 'https://packages.example/l3af',
    redact: value.redactUrls,
  },
  repo_tls_ca: {
    schema: value.secretFile.optional(),
    placeholder: 'file',
    description: 'certificate authorities (PEM) that https package repositories are verified with',
    absent: "the system's",
    example: '/etc/l3af-agent/repo-ca.pem',
    redact: value.redactSecret,
  },
  signature_policy: {
    schema: value.oneOf('off', 'if-present', 'required'),
    placeholder: 'policy',
    description: 'whether packages must be signed; if-present checks those that are',
    default: 'off',
  },
  trusted_keys: {
    schema: value.trustedKeys.optional(),
    placeholder: 'keys',
    description: 'public keys that packages may be signed with, or files that hold them, joined by commas',
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
    description: 'several programs per hook behind a root program; false: one program per hook, attached itself',
    default: 'true',
  },
  datapath: {
    schema: value.oneOf('libbpf', 'memory'),
    placeholder: 'kind',
    description: 'libbpf drives the kernel; memory only imitates one, for trying out',
    default: 'libbpf',
  },
  xdp_mode: {
    schema: value.oneOf('auto', 'native', 'generic'),
    placeholder: 'mode',
    description: "how XDP attaches: in the driver, in the stack, or the driver's if it can",
    default: 'auto',
  },
  tc_mode: {
    schema: value.oneOf('auto', 'tcx', 'clsact'),
    placeholder: 'mode',
    description: 'how TC attaches: by TCX link, by clsact filter, or TCX where the kernel has it',
    default: 'auto',
  },
  run_stats: {
    schema: value.yesOrNo,
    placeholder: 'bool',
    description: 'have the kernel count packets and time of every BPF program of the machine; costs 20 ns a run',
    default: 'false',
  },
  ...ROOT_SETTINGS,
  metrics_addr: {
    schema: value.listenAddress,
    placeholder: 'address',
    description: 'where /metrics and /healthz are served; off: nowhere',
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
    description: 'how many readings of a map avg, min, p95, rate and max-rate look back on',
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
    description: 'least severe messages that are logged',
    default: 'info',
  },
} as const satisfies Record<string, Definition>;

type Table = typeof TABLE;
type CamelCase<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

/** The settings as the agent uses them, named in camel case. Durations in milliseconds; paths are absolute. */
export type Config = { readonly [K in keyof Table as CamelCase<K>]: z.output<Table[K]['schema']> };

/** A row of the table as help and documentation show it. */
export interface Setting extends SettingNames {
  readonly placeholder: string;
  readonly description: string;
  /** The constant default, or undefined; then {@link absent} says in words what holds. */
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
