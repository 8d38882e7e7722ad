import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../config.js';
import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { ATTACH_POINT_NAMES, type AttachPointName } from '../domain/hook.js';
import { contentDigest, type PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import type { RootProgram } from '../plan/context.js';

export type Roots = Readonly<Record<AttachPointName, RootProgram>>;

/** The installation's folder. Compiled code is in `dist/` below it, next to `native/` and package.json. */
export const PROJECT_ROOT = findProjectRoot();

/** Where `make -C native` puts its results. */
const BUILD_DIR = join('native', 'build');

/**
 * The root programs from the configuration: from packages if artifacts are set, otherwise the built-in ones. A package
 * is fetched when its root is loaded.
 *
 * @throws AgentError OBJECT_INVALID when a built-in one has not been built
 */
export function configuredRoots(config: Config, projectRoot = PROJECT_ROOT): Roots {
  const roots = ATTACH_POINT_NAMES.map((attachPoint) => {
    return [attachPoint, packagedRoot(config, attachPoint) ?? builtinRoot(attachPoint, projectRoot)] as const;
  });
  return Object.fromEntries(roots) as Roots;
}

/** The packages that roots come from. */
export function rootPackages(roots: Roots): PackageRef[] {
  return Object.values(roots).flatMap(({ object }) => (object.kind === 'package' ? [object.package] : []));
}

function builtinRoot(attachPoint: AttachPointName, projectRoot: string): RootProgram {
  const { name, object, entryFunction, slotMap } = ATTACH_POINTS[attachPoint].root;
  const objectPath = join(projectRoot, BUILD_DIR, `${object}.bpf.o`);
  return {
    name,
    version: 'latest',
    digest: digestOf(objectPath),
    object: { kind: 'builtin', objectPath },
    entryFunction,
    slotMap,
  };
}

function packagedRoot(config: Config, attachPoint: AttachPointName): RootProgram | undefined {
  const settings = PACKAGE_SETTINGS[attachPoint]?.(config);
  if (settings?.artifact === undefined) return undefined;
  const { package: name, version, artifact, objectFile, entryFunction, slotMap } = settings;
  const ref: PackageRef = { name, version, artifact, repoUrl: '' };
  return {
    name: ATTACH_POINTS[attachPoint].root.name,
    version,
    digest: contentDigest({ ...ref, objectFile, entryFunction, mapName: slotMap }),
    object: { kind: 'package', package: ref, objectFile },
    entryFunction,
    slotMap,
  };
}

/** The settings that name the package of a root. An attach point without an entry uses its built-in root. */
const PACKAGE_SETTINGS: Readonly<Partial<Record<AttachPointName, (config: Config) => PackagedRoot>>> = {
  xdpingress: (config) => ({
    artifact: config.xdpRootArtifact,
    package: config.xdpRootPackageName,
    version: config.xdpRootVersion,
    objectFile: config.xdpRootObjectFile,
    entryFunction: config.xdpRootEntryFunctionName,
    slotMap: config.xdpRootIngressMapName,
  }),
  ingress: (config) => ({
    ...tcPackage(config),
    objectFile: config.tcRootIngressObjectFile,
    entryFunction: config.tcRootIngressEntryFunctionName,
    slotMap: config.tcRootIngressMapName,
  }),
  egress: (config) => ({
    ...tcPackage(config),
    objectFile: config.tcRootEgressObjectFile,
    entryFunction: config.tcRootEgressEntryFunctionName,
    slotMap: config.tcRootEgressMapName,
  }),
};

interface PackagedRoot {
  /** Undefined for the built-in root. */
  readonly artifact: string | undefined;
  readonly package: string;
  readonly version: string;
  readonly objectFile: string;
  readonly entryFunction: string;
  readonly slotMap: string;
}

function tcPackage(config: Config) {
  return { artifact: config.tcRootArtifact, package: config.tcRootPackageName, version: config.tcRootVersion };
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
