import { type PackageSpec, type PayloadProgram, payloadProgram } from '../support/packages.js';
import { builtObject } from '../support/project.js';

/*
 * The programs of random commands: numbered markers. Their packages hold the marker's code twice, under two names, and
 * the code of another program. So each field that selects code can change alone or together with others.
 */

export type List = 'xdp_ingress' | 'tc_ingress' | 'tc_egress';

/** In the order of precedence for public names: XDP, ingress, egress. */
export const LISTS: readonly List[] = ['xdp_ingress', 'tc_ingress', 'tc_egress'];

/** A program in a payload. */
export interface Wire extends PayloadProgram {
  readonly carry_maps?: readonly string[];
}

/** A compiled program and its maps that user space can use, without its slot. */
export interface Code {
  readonly object: string;
  readonly entry: string;
  readonly slot: string;
  readonly maps: Readonly<Record<string, 'array' | 'hash'>>;
  /** Whether it adds its number to the trail in probe packets; see native/bpf/mark.h. */
  readonly leavesTrail: boolean;
}

type Kind = 'xdp' | 'tc';

const MARK_MAPS = {
  mark_id: 'array',
  mark_order: 'array',
  mark_seen: 'array',
  mark_packets: 'array',
  mark_paths: 'hash',
} as const;

const OTHER: Readonly<Record<Kind, Code>> = {
  xdp: {
    object: 'port_count.bpf.o',
    entry: 'xdp_port_count',
    slot: 'port_count_next',
    maps: { packet_count: 'array', port_packets: 'hash' },
    leavesTrail: false,
  },
  tc: {
    object: 'tc_count.bpf.o',
    entry: 'tc_count',
    slot: 'tc_count_next',
    maps: { tc_packets: 'array', tc_bytes: 'array' },
    leavesTrail: false,
  },
};

export const VERSIONS = ['1.0', '2.0'] as const;
/** The numbers of programs in chains. */
export const MARKERS = [1, 2, 3, 4, 5] as const;
/** A program in no chain, for faulty commands. */
export const SPARE = 6;

/** How a program can differ from the plain marker of its version. Each difference makes it different code. */
export const VARIANTS = ['plain', 'artifact', 'repository', 'object', 'other-code'] as const;
export type Variant = (typeof VARIANTS)[number];

export interface Choice {
  /** The number in the marker's name, not the number that it writes. */
  readonly marker: number;
  readonly version: string;
  readonly variant: Variant;
  /** Without a slot. In an XDP chain, only the last program can be so. */
  readonly slotless: boolean;
}

export function kindOf(list: List): Kind {
  return list === 'xdp_ingress' ? 'xdp' : 'tc';
}

export function nameOf(list: List, marker: number): string {
  return `${kindOf(list)}-marker-${marker}`;
}

/** The payload fields that select code. @param repository URL that programs can name, or leave to the agent */
export function codeFields(list: List, choice: Choice, repository: string): Wire {
  const name = nameOf(list, choice.marker);
  const other = OTHER[kindOf(list)];
  const fields: Readonly<Record<Variant, Partial<Wire>>> = {
    plain: {},
    artifact: { artifact: `${name}-again.tar.gz` },
    repository: { ebpf_package_repo_url: repository },
    object: { object_file: 'again.bpf.o' },
    'other-code': { object_file: other.object, entry_function_name: other.entry, map_name: other.slot },
  };
  const plain = { name, version: choice.version, artifact: `${name}.tar.gz`, ...fields[choice.variant] };
  return payloadProgram(`${kindOf(list)}-mark`, choice.slotless ? { ...plain, map_name: '' } : plain);
}

/** The code that a program in a payload selects. */
export function codeOf(list: List, { object_file: object }: Pick<Wire, 'object_file'>): Code {
  const kind = kindOf(list);
  if (object === OTHER[kind].object) return OTHER[kind];
  return { object, entry: `${kind}_mark`, slot: 'mark_next', maps: MARK_MAPS, leavesTrail: true };
}

/** The packages of all markers in all variants. */
export function variantPackages(platform: string): PackageSpec[] {
  return (['xdp_ingress', 'tc_ingress'] as const).flatMap((list) => {
    const kind = kindOf(list);
    const mark = builtObject(`${kind}_mark`);
    const { object } = OTHER[kind];
    const files = {
      [`${kind}_mark.bpf.o`]: mark,
      'again.bpf.o': mark,
      [object]: builtObject(object.replace('.bpf.o', '')),
    };
    return [...MARKERS, SPARE].flatMap((marker) => {
      const name = nameOf(list, marker);
      return VERSIONS.flatMap((version) =>
        [`${name}.tar.gz`, `${name}-again.tar.gz`].map((artifact) => ({ name, version, platform, artifact, files })),
      );
    });
  });
}
