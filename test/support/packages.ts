import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { create } from 'tar';
import type { Aggregator } from '../../src/domain/aggregate.js';
import type { MapArgs, MapValue } from '../../src/domain/program.js';
import { builtObject } from './project.js';

/*
 * Packages in l3afd's layout, and payloads for them, made of the objects that `make -C native` builds.
 */

/** One artifact of a package repository. */
export interface PackageSpec {
  readonly name: string;
  readonly version: string;
  /** The distribution's code name: `bookworm`. */
  readonly platform: string;
  /** File name, ending in `.tar.gz`. */
  readonly artifact: string;
  /** Name within the package to content. */
  readonly files: Readonly<Record<string, PackageFile>>;
  /**
   * The folder within the archive that contains the files; '' for none. Default: the artifact's name up to its first
   * dot, which is where l3afd looks (`VerifyAndGetArtifacts` in its bpfprogs/bpf.go).
   */
  readonly prefix?: string;
}

/** The path of a file on disk, copied with its mode; or the bytes themselves; or the text of an executable script. */
export type PackageFile = string | Uint8Array | { readonly script: string };

/** Writes `<dir>/<name>/<version>/<platform>/<artifact>` for each package. The same input gives the same bytes. */
export async function buildRepository(dir: string, specs: readonly PackageSpec[]): Promise<void> {
  const staging = await mkdtemp(join(tmpdir(), 'l3af-packages-'));
  try {
    await Promise.all(specs.map((spec, index) => buildArtifact(dir, spec, join(staging, String(index)))));
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function buildArtifact(dir: string, spec: PackageSpec, staging: string): Promise<void> {
  const prefix = spec.prefix ?? spec.artifact.slice(0, spec.artifact.indexOf('.'));
  const names = Object.keys(spec.files).toSorted();
  for (const name of names) {
    const path = join(staging, prefix, name);
    await mkdir(dirname(path), { recursive: true });
    await placeFile(path, spec.files[name] as PackageFile);
  }

  const target = join(dir, spec.name, spec.version, spec.platform);
  await mkdir(target, { recursive: true });
  const entries = prefix === '' ? names : [prefix];
  await create({ file: join(target, spec.artifact), cwd: staging, gzip: true, portable: true, mtime: EPOCH }, entries);
}

const EPOCH = new Date(0);

async function placeFile(path: string, file: PackageFile): Promise<void> {
  if (typeof file === 'string') await copyFile(file, path);
  else if (file instanceof Uint8Array) await writeFile(path, file);
  else await writeFile(path, file.script, { mode: 0o755 });
}

type ProgramType = 'xdp' | 'tc' | 'cgroup_skb';

/** The part of a package's payload that is the same in all its versions. */
interface Product {
  readonly progType: ProgramType;
  readonly slot: string;
  readonly entry: string;
  /** Version to the object in native/build, without `.bpf.o`. Within the package it always has the first one's name. */
  readonly objects: Readonly<Record<string, string>>;
  readonly mapArgs?: readonly PayloadMapArgs[];
}

/** How many marker packages of each kind exist: a chain cannot contain a name twice. */
const MARKERS = [1, 2, 3, 4, 5] as const;
type Marker = `${'xdp' | 'tc'}-mark-${(typeof MARKERS)[number]}`;

const PRODUCTS = {
  'port-count': {
    progType: 'xdp',
    slot: 'port_count_next',
    entry: 'xdp_port_count',
    objects: { '1.0': 'port_count', '2.0': 'port_count' },
  },
  'port-drop': {
    progType: 'xdp',
    slot: 'port_drop_next',
    entry: 'xdp_port_drop',
    objects: { '1.0': 'port_drop', '2.0': 'port_drop_v2' },
  },
  'rate-limit': {
    progType: 'xdp',
    slot: 'rate_limit_next',
    entry: 'xdp_rate_limit',
    objects: { '1.0': 'rate_limit' },
  },
  'dscp-mark': { progType: 'tc', slot: 'dscp_mark_next', entry: 'tc_dscp_mark', objects: { '1.0': 'dscp_mark' } },
  'tc-count': {
    progType: 'tc',
    slot: 'tc_count_next',
    entry: 'tc_count',
    objects: { '1.0': 'tc_count', '2.0': 'tc_count' },
  },
  'skb-count': {
    progType: 'cgroup_skb',
    slot: 'skb_count_next',
    entry: 'skb_count',
    objects: { '1.0': 'skb_count', '2.0': 'skb_count' },
  },
  'skb-drop': { progType: 'cgroup_skb', slot: 'skb_drop_next', entry: 'skb_drop', objects: { '1.0': 'skb_drop' } },
  'xdp-mark': marker('xdp'),
  'tc-mark': marker('tc'),
  ...markers('xdp'),
  ...markers('tc'),
  policy: { progType: 'xdp', slot: 'policy_next', entry: 'xdp_policy', objects: { '1.0': 'policy', '2.0': 'policy' } },
  'map-kinds': {
    progType: 'xdp',
    slot: 'kinds_next',
    entry: 'xdp_kinds',
    objects: { '1.0': 'map_kinds', '2.0': 'map_kinds' },
  },
  broken: { progType: 'xdp', slot: 'broken_next', entry: 'xdp_broken', objects: { '1.0': 'broken' } },
} satisfies Record<string, Product>;

function marker(progType: 'xdp' | 'tc', id?: number): Product {
  return {
    progType,
    slot: 'mark_next',
    entry: `${progType}_mark`,
    objects: { '1.0': `${progType}_mark`, '2.0': `${progType}_mark` },
    ...(id !== undefined && { mapArgs: [{ name: 'mark_id', args: [{ key: 0, value: id }] }] }),
  };
}

function markers(progType: 'xdp' | 'tc'): Record<Marker, Product> {
  return Object.fromEntries(MARKERS.map((id) => [`${progType}-mark-${id}`, marker(progType, id)])) as Record<
    Marker,
    Product
  >;
}

export type PackageName = keyof typeof PRODUCTS;

/** Every package in every version, for {@link buildRepository}. */
export function standardPackages(platform: string): readonly PackageSpec[] {
  return Object.entries(PRODUCTS).flatMap(([name, product]: [string, Product]) =>
    Object.entries(product.objects).map(([version, object]) => ({
      name,
      version,
      platform,
      artifact: `${name}.tar.gz`,
      files: { [objectFile(product)]: builtObject(object) },
    })),
  );
}

function objectFile(product: Product): string {
  return `${product.objects['1.0']}.bpf.o`;
}

export interface PayloadMapArgs {
  readonly name: string;
  readonly args: MapArgs['args'];
}

export interface PayloadMonitoredMap {
  readonly name: string;
  readonly key: MapValue;
  readonly aggregator: Aggregator;
  readonly field?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A program of a payload, with every field of l3afd (`BPFProgram` in its models/l3afd.go). */
export interface PayloadProgram {
  readonly id: number;
  readonly name: string;
  readonly seq_id: number;
  readonly artifact: string;
  readonly map_name: string;
  readonly cmd_start: string;
  readonly cmd_stop: string;
  readonly cmd_status: string;
  readonly cmd_config: string;
  readonly cmd_update: string;
  readonly version: string;
  readonly user_program_daemon: boolean;
  readonly is_plugin: boolean;
  readonly cpu: number;
  readonly memory: number;
  readonly admin_status: 'enabled' | 'disabled';
  readonly prog_type: ProgramType;
  readonly rules_file: string;
  readonly rules: string;
  readonly config_file_path: string;
  readonly cfg_version: number;
  readonly start_args: Readonly<Record<string, string>>;
  readonly stop_args: Readonly<Record<string, string>>;
  readonly status_args: Readonly<Record<string, string>>;
  readonly update_args: Readonly<Record<string, string>>;
  readonly map_args: readonly PayloadMapArgs[];
  readonly config_args: Readonly<Record<string, string>>;
  readonly monitor_maps: readonly PayloadMonitoredMap[];
  readonly ebpf_package_repo_url: string;
  readonly object_file: string;
  readonly entry_function_name: string;
}

/**
 * The payload's entry for a package: version 1.0, enabled, at `seq_id` 1, without companion. A numbered marker
 * (`xdp-mark-3`) has `map_args` that set its number.
 */
export function payloadProgram(name: PackageName, overrides: Partial<PayloadProgram> = {}): PayloadProgram {
  const product: Product = PRODUCTS[name];
  return {
    id: 1,
    name,
    seq_id: 1,
    artifact: `${name}.tar.gz`,
    map_name: product.slot,
    cmd_start: '',
    cmd_stop: '',
    cmd_status: '',
    cmd_config: '',
    cmd_update: '',
    version: '1.0',
    user_program_daemon: false,
    is_plugin: false,
    cpu: 0,
    memory: 0,
    admin_status: 'enabled',
    prog_type: product.progType,
    rules_file: '',
    rules: '',
    config_file_path: '',
    cfg_version: 1,
    start_args: {},
    stop_args: {},
    status_args: {},
    update_args: {},
    map_args: product.mapArgs ?? [],
    config_args: {},
    monitor_maps: [],
    ebpf_package_repo_url: '',
    object_file: objectFile(product),
    entry_function_name: product.entry,
    ...overrides,
  };
}
