import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import type { PackageFile } from './unpack.js';

const LISTED = 10;

/**
 * Finds a file in a package's list of files: at the top, or else in the single top-level folder.
 *
 * @throws AgentError OBJECT_FILE_NOT_FOUND with a list of the package's files
 */
export function locate(ref: PackageRef, name: string, files: readonly PackageFile[]): PackageFile {
  const tops = new Set(files.flatMap(({ path }) => (path.includes('/') ? [path.slice(0, path.indexOf('/'))] : [])));
  const [top] = tops;
  const places = tops.size === 1 ? [name, `${top}/${name}`] : [name];
  const file = places.map((place) => files.find(({ path }) => path === place)).find((found) => found !== undefined);
  if (file !== undefined) return file;

  const listed = files.slice(0, LISTED).map(({ path }) => path);
  const more = files.length > LISTED ? ` and ${files.length - LISTED} more` : '';
  const message = `${ref.artifact} of ${ref.name} ${ref.version} has no file ${JSON.stringify(name)}; it holds ${listed.join(', ')}${more}`;
  throw new AgentError('OBJECT_FILE_NOT_FOUND', message);
}
