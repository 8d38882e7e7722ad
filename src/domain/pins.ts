import { ATTACH_POINTS } from './attach-points/registry.js';
import { type AttachPointName, attachPointOf, type ChainHook, hookOf, isAttachPointName, targetName } from './hook.js';

/*
 * Every path under bpffs, in one place. Companions rely on the first two, which are l3afd's. The depth of each kind of
 * path is known in one more place: datapath/libbpf/pins/loads.ts, which finds what is pinned.
 *
 *   <bpffs>/<iface>/<program>/<version>/<map>                  maps of XDP programs, including the slot
 *   <bpffs>/tc/globals/<iface>/<program>/<version>/<map>       maps of TC programs
 *   <bpffs>/links/<iface>/<root>/<version>/<direction>         the link that attaches a chain to its hook
 *   <bpffs>/links/<iface>/<program>/<version>/<direction>-<digest>-<serial>
 *                                                              the link of what follows a TC program without slot
 *   <bpffs>/progs/<iface>/<program>/<version>/<direction>-<digest>-<serial>/    one load:
 *       prog, slot, maps/<map>, probes/<function>/prog and link; stage, if a companion has loaded the program
 *   <bpffs>/progs/probes/<program>/<version>/probe-<digest>-<serial>/           one load of the probes of a package:
 *       maps/<map>, probes/<function>/prog and link
 *   <bpffs>/probes/<program>/<version>/<map>                   maps of probes
 *   <bpffs>/<iface>/<map>, <bpffs>/tc/globals/<iface>/<map>    second names, where l3afd had the maps before 2.1:
 *                                                              for the companions of that time
 *
 * A load owns everything below its directory. The map paths outside are additional names (hard links) of the live
 * program's maps. bpffs refuses dots in names (kernel/bpf/inode.c, bpf_lookup), hence the two encodings.
 */

/** One load of one program for one hook. A reload of the same code is another load with another serial. */
export interface LoadRef {
  readonly hook: ChainHook;
  readonly name: string;
  readonly version: string;
  /** {@link contentDigest} of the program. For a built-in root, the first 16 digits of its object file's SHA-256. */
  readonly digest: string;
  /** Distinguishes loads of the same code. */
  readonly serial: number;
}

/** Folders below bpffs with public map names, for attach points whose names are not directly in bpffs. */
export const MAP_FOLDERS: readonly string[] = [
  ...new Set(Object.values(ATTACH_POINTS).map(({ mapFolder }) => mapFolder)),
].filter((folder) => folder !== '');

/** Names that an interface must not have, because they would collide with the layout's own directories. */
export const RESERVED_NAMES: readonly string[] = [
  ...new Set([...MAP_FOLDERS.map((folder) => folder.split('/', 1)[0]!), 'links', 'progs', 'probes']),
];

/** The names of roots in pins, whichever package they come from. No other program may have these names. */
export const ROOT_NAMES: readonly string[] = [...new Set(Object.values(ATTACH_POINTS).map(({ root }) => root.name))];

/** A version as part of a path: dots become underscores, as in l3afd. */
export function versionSegment(version: string): string {
  return version.replaceAll('.', '_');
}

/**
 * An interface name or a control group path as part of a path. The encoding is reversible, so that `eth0.100` and
 * `eth0_100` stay distinct.
 */
export function targetSegment(target: string): string {
  return target.replaceAll('%', '%25').replaceAll('.', '%2E').replaceAll('/', '%2F');
}

/** Reverses {@link targetSegment}. */
export function targetOfSegment(segment: string): string {
  return segment.replaceAll('%2F', '/').replaceAll('%2E', '.').replaceAll('%25', '%');
}

/** A map name as part of a path. libbpf names global data maps `<object>.bss`. */
export function mapSegment(map: string): string {
  return map.replaceAll('.', '_');
}

export function loadDir(bpffs: string, ref: LoadRef): string {
  const { hook, name, version, digest, serial } = ref;
  const folder = `${hook.direction}-${digest}-${serial}`;
  return `${bpffs}/progs/${targetSegment(targetName(hook))}/${name}/${versionSegment(version)}/${folder}`;
}

/** One load of the probes that a package contains for the host. */
export type ProbesRef = Omit<LoadRef, 'hook'>;

export function probesDir(bpffs: string, { name, version, digest, serial }: ProbesRef): string {
  return `${bpffs}/progs/probes/${name}/${versionSegment(version)}/probe-${digest}-${serial}`;
}

/** Parses the name of such a directory; undefined for a foreign name. */
export function parseProbesName(name: string): { digest: string; serial: number } | undefined {
  const [, digest, serial] = /^probe-([0-9a-f]{16})-([0-9]{1,9})$/.exec(name) ?? [];
  return digest === undefined ? undefined : { digest, serial: Number(serial) };
}

/** The folder of all probes in a directory, with a folder for each probe. It appears atomically with its contents. */
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

/** The slot into which a companion puts the program that it loads itself. */
export function handoverPin(dir: string): string {
  return `${dir}/stage`;
}

/** The folder with the pins of a load's maps. */
export function mapsFolder(dir: string): string {
  return `${dir}/maps`;
}

export function mapPin(dir: string, map: string): string {
  return `${mapsFolder(dir)}/${mapSegment(map)}`;
}

/** Where companions and people find a live program's map. */
export function publicMapPath(bpffs: string, program: Pick<LoadRef, 'hook' | 'name' | 'version'>, map: string): string {
  const base = mapsBase(bpffs, program.hook);
  const owner = `${targetSegment(targetName(program.hook))}/${program.name}/${versionSegment(program.version)}`;
  return `${base}/${owner}/${mapSegment(map)}`;
}

function mapsBase(bpffs: string, hook: ChainHook): string {
  const { mapFolder } = attachPointOf(hook);
  return mapFolder === '' ? bpffs : `${bpffs}/${mapFolder}`;
}

/** The map path for companions whose paths contain neither program nor version. */
export function formerMapPath(bpffs: string, hook: ChainHook, map: string): string {
  return `${mapsBase(bpffs, hook)}/${targetSegment(targetName(hook))}/${mapSegment(map)}`;
}

/** Pin of the link that attaches `entry` (the root, or the only program with chaining off) to its hook. */
export function linkPin(bpffs: string, entry: Pick<LoadRef, 'hook' | 'name' | 'version'>): string {
  const { hook, name, version } = entry;
  return `${bpffs}/links/${targetSegment(targetName(hook))}/${name}/${versionSegment(version)}/${hook.direction}`;
}

/**
 * Pin of the link of what follows a TC program without slot. It is named after the load by which packets enter,
 * because an old and a new one may be attached at the same time for a moment.
 */
export function furtherLinkPin(bpffs: string, dir: string): string {
  return `${bpffs}/links/${dir.slice(`${bpffs}/progs/`.length)}`;
}

/** Parses a load's directory name: `xdpingress-0123456789abcdef-3`; undefined for a foreign name. */
export function parseLoadName(
  name: string,
): { attachPoint: AttachPointName; digest: string; serial: number } | undefined {
  const [, attachPoint = '', digest = '', serial] = /^([a-z_]+)-([0-9a-f]{16})-([0-9]{1,9})$/.exec(name) ?? [];
  return isAttachPointName(attachPoint) ? { attachPoint, digest, serial: Number(serial) } : undefined;
}

/** The hook of a load's pin; undefined for any other path. */
export function hookOfPin(path: string): ChainHook | undefined {
  const [, target, name] = /\/progs\/([^/]+)\/[^/]+\/[^/]+\/([^/]+)\//.exec(path) ?? [];
  const parsed = parseLoadName(name ?? '');
  return target === undefined || parsed === undefined ? undefined : hookOf(targetOfSegment(target), parsed.attachPoint);
}
