import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../config.js';
import type { Direction } from '../domain/hook.js';
import { contentDigest, type PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import type { RootProgram } from '../plan/context.js';

export type Roots = Readonly<Record<Direction, RootProgram>>;

/** Functions and maps of l3afd's own root packages, so that its companions and tools find them. */
const BUILTIN = {
  xdpingress: { object: 'xdp_root', entryFunction: 'xdp_root', slotMap: 'xdp_root_array' },
  ingress: { object: 'tc_root', entryFunction: 'tc_ingress_root', slotMap: 'tc_ingress_root_array' },
  egress: { object: 'tc_root', entryFunction: 'tc_egress_root', slotMap: 'tc_egress_root_array' },
} as const satisfies Record<Direction, { object: string; entryFunction: string; slotMap: string }>;

const NAME = { xdpingress: 'xdp-root', ingress: 'tc-root', egress: 'tc-root' } as const;

/** The installation's folder: compiled code lies in `dist/` below it, next to `native/` and package.json. */
export const PROJECT_ROOT = findProjectRoot();

/** Where `make -C native` puts what it builds. */
const BUILD_DIR = join('native', 'build');

/**
 * The root programs as configured: from packages where artifacts are named, else the built-in ones. Packages are fetched when a root is
 * loaded.
 *
 * @throws AgentError OBJECT_INVALID when a built-in one has not been built
 */
export function configuredRoots(config: Config, projectRoot = PROJECT_ROOT): Roots {
  const rootAt = (direction: Direction) => packagedRoot(config, direction) ?? builtinRoot(direction, projectRoot);
  return { xdpingress: rootAt('xdpingress'), ingress: rootAt('ingress'), egress: rootAt('egress') };
}

/** The packages that roots come from. */
export function rootPackages(roots: Roots): PackageRef[] {
  return Object.values(roots).flatMap(({ object }) => (object.kind === 'package' ? [object.package] : []));
}

function builtinRoot(direction: Direction, projectRoot: string): RootProgram {
  const { object, entryFunction, slotMap } = BUILTIN[direction];
  const objectPath = join(projectRoot, BUILD_DIR, `${object}.bpf.o`);
  return {
    name: NAME[direction],
    version: 'latest',
    digest: digestOf(objectPath),
    object: { kind: 'builtin', objectPath },
    entryFunction,
    slotMap,
  };
}

function packagedRoot(config: Config, direction: Direction): RootProgram | undefined {
  const settings = packageSettings(config, direction);
  if (settings.artifact === undefined) return undefined;
  const { package: name, version, artifact, objectFile, entryFunction, slotMap } = settings;
  const ref: PackageRef = { name, version, artifact, repoUrl: '' };
  return {
    name: NAME[direction],
    version,
    digest: contentDigest({ ...ref, objectFile, entryFunction, mapName: slotMap }),
    object: { kind: 'package', package: ref, objectFile },
    entryFunction,
    slotMap,
  };
}

function packageSettings(config: Config, direction: Direction) {
  if (direction === 'xdpingress') {
    return {
      artifact: config.xdpRootArtifact,
      package: config.xdpRootPackageName,
      version: config.xdpRootVersion,
      objectFile: config.xdpRootObjectFile,
      entryFunction: config.xdpRootEntryFunctionName,
      slotMap: config.xdpRootIngressMapName,
    };
  }
  const isIngress = direction === 'ingress';
  return {
    artifact: config.tcRootArtifact,
    package: config.tcRootPackageName,
    version: config.tcRootVersion,
    objectFile: isIngress ? config.tcRootIngressObjectFile : config.tcRootEgressObjectFile,
    entryFunction: isIngress ? config.tcRootIngressEntryFunctionName : config.tcRootEgressEntryFunctionName,
    slotMap: isIngress ? config.tcRootIngressMapName : config.tcRootEgressMapName,
  };
}

function digestOf(objectPath: string): string {
  try {
    return createHash('sha256').update(readFileSync(objectPath)).digest('hex').slice(0, 16);
  } catch (cause) {
    const message = `The built-in root program ${objectPath} is missing; build it with "make -C native"`;
    throw new AgentError('OBJECT_INVALID', message, { cause });
  }
}

function findProjectRoot(): string {
  let dir = import.meta.dirname;
  while (dirname(dir) !== dir && !isProjectRoot(dir)) dir = dirname(dir);
  return dir;
}

function isProjectRoot(dir: string): boolean {
  try {
    return (JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as { name?: string }).name === 'l3af-agent';
  } catch {
    return false;
  }
}
