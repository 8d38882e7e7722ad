import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isObject } from '../domain/json.js';
import type { PackageFile } from './unpack.js';

/** What the cache knows about one package reference. Stored as JSON. */
export interface PackageRecord {
  /** SHA-256 of the artifact, in lower-case hexadecimal; names the folder that holds the files. */
  readonly digest: string;
  /** The URL that it was fetched from, without secrets. */
  readonly url: string;
  /** RFC 3339. */
  readonly fetchedAt: string;
  /** The platform folder of the repository that it was fetched from. */
  readonly platform: string;
  /** In base64; empty for a package without signatures; absent if the policy did not check them. */
  readonly signatures?: readonly string[];
  readonly files: readonly PackageFile[];
}

/** @returns undefined for a record that is absent, incomplete or not of this form; the package is then fetched again */
export async function readRecord(path: string): Promise<PackageRecord | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    return isRecord(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Whether a folder still holds the unpacked files: each with its size and executable bit, and with its content if it is
 * loaded or run. Additional files are harmless: companions may write files next to themselves.
 */
export async function holdsFiles(folder: string, files: readonly PackageFile[]): Promise<boolean> {
  for (const file of files) {
    if (!(await isUnaltered(folder, file))) return false;
  }
  return true;
}

async function isUnaltered(folder: string, file: PackageFile): Promise<boolean> {
  const path = join(folder, file.path);
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
  if (stat === undefined || !stat.isFile() || stat.size !== file.size) return false;
  if ((stat.mode & 0o7777) !== (file.executable ? 0o755 : 0o644)) return false;
  return !isLoadedOrRun(file) || (await sha256Of(path)) === file.sha256;
}

/** Whether the content of a file is unchanged, whatever its name. Call it for files that holdsFiles() has found. */
export async function hasContent(folder: string, file: PackageFile): Promise<boolean> {
  return isLoadedOrRun(file) || (await sha256Of(join(folder, file.path))) === file.sha256;
}

function isLoadedOrRun({ executable, path }: PackageFile): boolean {
  return executable || path.endsWith('.o');
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

function isRecord(value: unknown): value is PackageRecord {
  if (!isObject(value)) return false;
  const { digest, url, fetchedAt, platform, signatures, files } = value;
  const named = typeof url === 'string' && typeof fetchedAt === 'string' && typeof platform === 'string';
  if (!named || typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) return false;
  if (signatures !== undefined && !(Array.isArray(signatures) && signatures.every(isText))) return false;
  return Array.isArray(files) && files.length > 0 && files.every(isFile);
}

function isFile(value: unknown): value is PackageFile {
  if (!isObject(value)) return false;
  const { path, size, sha256, executable } = value;
  const named = typeof path === 'string' && typeof sha256 === 'string';
  return named && typeof size === 'number' && typeof executable === 'boolean';
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
