import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Direction } from './domain/hook.js';
import { AgentError } from './errors.js';
import type { RootProgram } from './plan/context.js';

/** Names, functions and maps of l3afd's own root packages, so that its companions and tools find them. */
const ROOTS = {
  xdpingress: { name: 'xdp-root', object: 'xdp_root', entryFunction: 'xdp_root', slotMap: 'xdp_root_array' },
  ingress: { name: 'tc-root', object: 'tc_root', entryFunction: 'tc_ingress_root', slotMap: 'tc_ingress_root_array' },
  egress: { name: 'tc-root', object: 'tc_root', entryFunction: 'tc_egress_root', slotMap: 'tc_egress_root_array' },
} as const satisfies Record<Direction, { name: string; object: string; entryFunction: string; slotMap: string }>;

/** The installation's folder: compiled code lies in `dist/` below it, next to `native/` and package.json. */
export const PROJECT_ROOT = findProjectRoot();

/** Where `make -C native` puts what it builds. */
const BUILD_DIR = join('native', 'build');

/**
 * The built-in root programs.
 *
 * @throws AgentError OBJECT_INVALID when they have not been built
 */
export function builtinRoots(projectRoot = PROJECT_ROOT): Readonly<Record<Direction, RootProgram>> {
  const rootAt = (direction: Direction): RootProgram => {
    const { name, object, entryFunction, slotMap } = ROOTS[direction];
    const objectPath = join(projectRoot, BUILD_DIR, `${object}.bpf.o`);
    return { name, version: 'latest', digest: digestOf(objectPath), objectPath, entryFunction, slotMap };
  };
  return { xdpingress: rootAt('xdpingress'), ingress: rootAt('ingress'), egress: rootAt('egress') };
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
