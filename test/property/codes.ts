import { type PackageSpec, type PayloadProgram, payloadProgram } from '../support/packages.js';
import { builtObject } from '../support/project.js';

/*
 * What the programs of random commands are made of: numbered markers, whose packages hold the marker's code twice, under two names, and
 * that of another program, so that each field that stands for code can change by itself or with others.
 */

export type List = 'xdp_ingress' | 'tc_ingress' | 'tc_egress';

/** In the order in which they decide who has a public name: XDP, ingress, egress. */
export const LISTS: readonly List[] = ['xdp_ingress', 'tc_ingress', 'tc_egress'];

/** A program of a payload, as it goes over the wire. */
export interface Wire extends PayloadProgram {
  readonly carry_maps?: readonly string[];
}

/** One compiled program, and the maps that user space finds in it, but for its slot. */
export interface Code {
  readonly object: string;
  readonly entry: string;
  readonly slot: string;
  readonly maps: Readonly<Record<string, 'array' | 'hash'>>;
  /** Whether it adds its number to the trail that probes carry; see native/bpf/mark.h. */
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
/** The programs of chains, by their numbers. */
export const MARKERS = [1, 2, 3, 4, 5] as const;
/** One that is in no chain, for commands that cannot be carried out. */
export const SPARE = 6;

/** In what a program differs from the plain marker of its version; each makes it other code. */
export const VARIANTS = ['plain', 'artifact', 'repository', 'object', 'other-code'] as const;
export type Variant = (typeof VARIANTS)[number];

export interface Choice {
  /** Which of the numbered markers: its name, not the number that it leaves. */
  readonly marker: number;
  readonly version: string;
  readonly variant: Variant;
  /** Without a slot: only for the last of an XDP chain. */
  readonly slotless: boolean;
}

export function kindOf(list: List): Kind {
  return list === 'xdp_ingress' ? 'xdp' : 'tc';
}

export function nameOf(list: List, marker: number): string {
  return `${kindOf(list)}-marker-${marker}`;
}

/** The fields of a payload that stand for code. @param repository its URL, which programs may name or leave to the agent */
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

/** The code that a program of a payload stands for. */
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
