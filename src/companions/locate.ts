import { access, constants } from 'node:fs/promises';
import type { CompanionLaunch } from '../domain/companion.js';
import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import { COMMANDS, type CommandName } from './record.js';

/** Finds the files of packages. */
export interface PackageFiles {
  /** The absolute path of a file of a package. @throws AgentError OBJECT_FILE_NOT_FOUND and what fetching may throw */
  objectPath(ref: PackageRef, file: string): Promise<string>;
}

/** Absolute paths of a companion's commands. */
export type CommandPaths = Readonly<Partial<Record<CommandName, string>>>;

/** @throws AgentError COMPANION_NOT_FOUND with the field of the payload, and what fetching the package may throw */
export async function locateCommands(
  { package: ref, companion }: CompanionLaunch,
  packages: PackageFiles,
): Promise<CommandPaths> {
  const files: Readonly<Record<CommandName, string>> = {
    start: companion.cmdStart,
    stop: companion.cmdStop,
    status: companion.cmdStatus,
    update: companion.cmdUpdate,
    config: companion.cmdConfig,
  };
  const paths: Partial<Record<CommandName, string>> = {};
  for (const command of COMMANDS) {
    if (files[command] === '') continue;
    paths[command] = await executable(ref, files[command], `cmd_${command}`, packages);
  }
  return paths;
}

async function executable(ref: PackageRef, file: string, field: string, packages: PackageFiles): Promise<string> {
  try {
    const path = await packages.objectPath(ref, file);
    await access(path, constants.X_OK);
    return path;
  } catch (cause) {
    if (cause instanceof AgentError && cause.code !== 'OBJECT_FILE_NOT_FOUND') throw cause;
    const reason = cause instanceof AgentError ? cause.message : `${file} of ${ref.artifact} is not executable`;
    throw new AgentError('COMPANION_NOT_FOUND', reason, { cause, path: field });
  }
}
