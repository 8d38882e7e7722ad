import { join } from 'node:path';
import type { PackageSpec, PayloadProgram } from './packages.js';
import { builtObject, PROJECT_ROOT } from './project.js';

/*
 * Markers that are loaded by their companion, native/companions/program_loader.c, instead of by the agent.
 */

const LOADER = join(PROJECT_ROOT, 'native', 'build', 'program_loader');

/** Its artifact, with the loader and the objects that it can load. */
export const SELF_LOADING_ARTIFACT = 'loader.tar.gz';

/** A package with the loader, beside the artifact of the standard package of that name. */
export function selfLoadingPackage(
  kind: 'xdp' | 'tc',
  name: string,
  { version = '1.0', platform }: { version?: string; platform: string },
  scripts: PackageSpec['files'] = {},
): PackageSpec {
  const files = {
    program_loader: LOADER,
    'mark.o': builtObject(`${kind}_mark`),
    'plain.o': builtObject('xdp_root'),
    ...scripts,
  };
  return { name, version, platform, artifact: SELF_LOADING_ARTIFACT, files };
}

/** The same program, to be loaded by its companion. @param args more options for the loader */
export function selfLoaded(program: PayloadProgram, args: Readonly<Record<string, string>> = {}): PayloadProgram {
  const { name, prog_type: kind } = program;
  return {
    ...program,
    artifact: SELF_LOADING_ARTIFACT,
    object_file: '',
    entry_function_name: '',
    cmd_start: 'program_loader',
    user_program_daemon: true,
    start_args: { name, object: 'mark.o', function: `${kind}_mark`, ...args },
  };
}
