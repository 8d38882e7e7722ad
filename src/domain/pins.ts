import { type Direction, type Hook, programKind } from './hook.js';

/*
 * Every path under bpffs, in one place. l3afd's layout, which companions rely on:
 *
 *   <bpffs>/<iface>/<program>/<version>/<map>                  maps of XDP programs, the slot among them
 *   <bpffs>/tc/globals/<iface>/<program>/<version>/<map>       maps of TC programs
 *   <bpffs>/links/<iface>/<root>/<version>/<direction>         the link that holds a chain at its hook
 *   <bpffs>/links/<iface>/<program>/<version>/<direction>-<digest>-<serial>
 *                                                              one that holds what follows a TC program without slot
 *   <bpffs>/progs/<iface>/<program>/<version>/<direction>-<digest>-<serial>/    one generation:
 *       prog, slot, maps/<map>, probes/<function>/prog and link; stage, where a companion has loaded the program
 *   <bpffs>/progs/probes/<program>/<version>/probe-<digest>-<serial>/           one load of the probes of a package:
 *       maps/<map>, probes/<function>/prog and link
 *   <bpffs>/probes/<program>/<version>/<map>                   maps of probes
 *   <bpffs>/<iface>/<map>, <bpffs>/tc/globals/<iface>/<map>    further names, where l3afd had the maps before 2.1: for the companions
 *                                                              of that time
 *
 * A generation owns everything below its directory. The map paths outside are further names (hard links) of the live
 * generation's maps. bpffs refuses dots in names (kernel/bpf/inode.c, bpf_lookup), hence the two encodings.
 */

/** One load of one program for one hook. A reload of the same code is another generation with another serial. */
export interface GenerationRef {
  readonly hook: Hook;
  readonly name: string;
  readonly version: string;
  /** {@link contentDigest} of the program; for a root the first 16 digits of its object file's SHA-256. */
  readonly digest: string;
  /** Tells generations of the same code apart. */
  readonly serial: number;
}

/** Interface names that would collide with the layout's own directories. */
export const RESERVED_IFACE_NAMES: readonly string[] = ['tc', 'links', 'progs', 'probes'];

/** What the roots of chains are called here, whichever package they come from: names that no other program may have. */
export const ROOT_NAMES: readonly string[] = ['xdp-root', 'tc-root'];

/** A version as it stands in a path: dots become underscores, as in l3afd. */
export function versionSegment(version: string): string {
  return version.replaceAll('.', '_');
}

/** An interface name as it stands in a path: reversible, so that `eth0.100` and `eth0_100` stay apart. */
export function ifaceSegment(iface: string): string {
  return iface.replaceAll('%', '%25').replaceAll('.', '%2E');
}

/** The interface name that a path segment stands for. */
export function ifaceOfSegment(segment: string): string {
  return segment.replaceAll('%2E', '.').replaceAll('%25', '%');
}

/** A map's name as it stands in a path: libbpf names global data maps `<object>.bss`. */
export function mapSegment(map: string): string {
  return map.replaceAll('.', '_');
}

export function generationDir(bpffs: string, ref: GenerationRef): string {
  const { hook, name, version, digest, serial } = ref;
  const generation = `${hook.direction}-${digest}-${serial}`;
  return `${bpffs}/progs/${ifaceSegment(hook.iface)}/${name}/${versionSegment(version)}/${generation}`;
}

/** One load of the probes that a package brings for the host. */
export type ProbesRef = Omit<GenerationRef, 'hook'>;

export function probesDir(bpffs: string, { name, version, digest, serial }: ProbesRef): string {
  return `${bpffs}/progs/probes/${name}/${versionSegment(version)}/probe-${digest}-${serial}`;
}

/** What the name of such a directory says; undefined for a name that is not ours. */
export function parseProbesName(name: string): { digest: string; serial: number } | undefined {
  const [, digest, serial] = /^probe-([0-9a-f]{16})-([0-9]{1,9})$/.exec(name) ?? [];
  return digest === undefined ? undefined : { digest, serial: Number(serial) };
}

/** The folder of all probes in a directory, which has one for each. It appears whole, with all that is in it. */
export function probesFolder(dir: string): string {
  return `${dir}/probes`;
}

/** Where companions and people find a map of a probe. */
export function publicProbeMapPath(bpffs: string, probe: Pick<ProbesRef, 'name' | 'version'>, map: string): string {
  return `${bpffs}/probes/${probe.name}/${versionSegment(probe.version)}/${mapSegment(map)}`;
}

export function programPin(dir: string): string {
  return `${dir}/prog`;
}

export function slotPin(dir: string): string {
  return `${dir}/slot`;
}

/** The slot that a companion puts its program into which it loads itself. */
export function stagePin(dir: string): string {
  return `${dir}/stage`;
}

export function mapPin(dir: string, map: string): string {
  return `${dir}/maps/${mapSegment(map)}`;
}

/** Where companions and people find a live program's map. */
export function publicMapPath(
  bpffs: string,
  program: Pick<GenerationRef, 'hook' | 'name' | 'version'>,
  map: string,
): string {
  const base = programKind(program.hook.direction) === 'xdp' ? bpffs : `${bpffs}/tc/globals`;
  const owner = `${ifaceSegment(program.hook.iface)}/${program.name}/${versionSegment(program.version)}`;
  return `${base}/${owner}/${mapSegment(map)}`;
}

/** Where companions find a live program's map that know no other program of their interface, and no versions. */
export function formerMapPath(bpffs: string, hook: Hook, map: string): string {
  const base = programKind(hook.direction) === 'xdp' ? bpffs : `${bpffs}/tc/globals`;
  return `${base}/${ifaceSegment(hook.iface)}/${mapSegment(map)}`;
}

/** Where the link that holds `entry` (the root, or the only program with chaining off) at its hook is pinned. */
export function linkPin(bpffs: string, entry: Pick<GenerationRef, 'hook' | 'name' | 'version'>): string {
  const { hook, name, version } = entry;
  return `${bpffs}/links/${ifaceSegment(hook.iface)}/${name}/${versionSegment(version)}/${hook.direction}`;
}

/**
 * Where the link is pinned that holds what follows a TC program without slot: under the name of the generation that it enters by, since
 * an old one and a new one may hang side by side for a moment.
 */
export function furtherLinkPin(bpffs: string, dir: string): string {
  return `${bpffs}/links/${dir.slice(`${bpffs}/progs/`.length)}`;
}

/** What a generation's directory name says: `xdpingress-0123456789abcdef-3`; undefined for a name that is not ours. */
export function parseGenerationName(
  name: string,
): { direction: Direction; digest: string; serial: number } | undefined {
  const match = /^(xdpingress|ingress|egress)-([0-9a-f]{16})-([0-9]{1,9})$/.exec(name);
  if (match === null) return undefined;
  const [, direction, digest, serial] = match as unknown as [string, Direction, string, string];
  return { direction, digest, serial: Number(serial) };
}

/** The hook that a pin of a generation is for; undefined for any other path. */
export function hookOfPin(path: string): Hook | undefined {
  const [, iface, name] = /\/progs\/([^/]+)\/[^/]+\/[^/]+\/([^/]+)\//.exec(path) ?? [];
  const parsed = parseGenerationName(name ?? '');
  return iface === undefined || parsed === undefined
    ? undefined
    : { iface: ifaceOfSegment(iface), direction: parsed.direction };
}
