import { createHash, type KeyObject, randomUUID } from 'node:crypto';
import { copyFile, link, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AgentError } from '../errors.js';
import { digestsFor } from './checksums.js';
import { sync } from './durable.js';
import { openRegular } from './regular-file.js';
import { readSignatures, type Statement, signPackage } from './signature.js';

/** A package in a repository. Its path joins the four fields with `/`. */
export type PackageId = Omit<Statement, 'digest'>;

/** Suffixes of the files next to an artifact. */
export const BESIDE = { digest: '.sha256', signatures: '.sig' } as const;

const ARCHIVE = /^\w[\w.+~-]{0,240}\.(tar\.gz|tgz|zip)$/;
const SEGMENT = /^(?!.*\.\.)[A-Za-z0-9][\w.-]{0,62}$/;

/**
 * @param path `<name>/<version>/<platform>/<artifact>`
 * @returns undefined if this is not the path of a package, for example for the files next to an artifact
 */
export function packageAt(path: string): PackageId | undefined {
  const [name = '', version = '', platform = '', artifact = '', ...rest] = path.split('/');
  const whole = [name, version, platform].every((segment) => SEGMENT.test(segment)) && ARCHIVE.test(artifact);
  return whole && rest.length === 0 ? { name, version, platform, artifact } : undefined;
}

export function pathOf({ name, version, platform, artifact }: PackageId): string {
  return [name, version, platform, artifact].join('/');
}

/** The packages in a repository folder, sorted by path. */
export async function packagesIn(repository: string): Promise<PackageId[]> {
  try {
    let paths = await readdir(repository);
    // Not deeper than packages are: a link to a parent folder would never end.
    for (const _level of ['version', 'platform', 'artifact']) {
      const folders = paths.filter((path) => SEGMENT.test(path.slice(path.lastIndexOf('/') + 1)));
      paths = (await Promise.all(folders.map((folder) => pathsIn(repository, folder)))).flat();
    }
    const files = await Promise.all(paths.map(async (path) => ((await isFile(join(repository, path))) ? [path] : [])));
    return files
      .flat()
      .toSorted()
      .flatMap((path) => packageAt(path) ?? []);
  } catch (cause) {
    const message = `The repository ${repository} cannot be read: ${(cause as Error).message}`;
    throw new AgentError('ARTIFACT_UNREACHABLE', message, { cause });
  }
}

async function pathsIn(repository: string, folder: string): Promise<string[]> {
  try {
    return (await readdir(join(repository, folder))).map((name) => `${folder}/${name}`);
  } catch (error) {
    if (['ENOTDIR', 'ENOENT', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

/**
 * Puts an archive into a repository folder, with its digest and, if a key is given, its signature next to it. Writes
 * the artifact last, so that an agent that finds it finds all files.
 *
 * @returns its SHA-256 in lower-case hexadecimal
 * @throws AgentError ARTIFACT_INVALID when there is already another archive, since versions are immutable;
 *   SIGNATURE_INVALID
 */
export async function storeArchive(
  archive: string,
  id: PackageId,
  repository: string,
  key?: KeyObject,
): Promise<string> {
  const place = join(repository, pathOf(id));
  const digest = await digestOf(archive);
  const requireSame = (there: string | undefined) => {
    if (there === undefined || there === digest) return;
    const message = `${pathOf(id)} is already in ${repository} with other content; agents never fetch a cached version again, so choose a new version`;
    throw new AgentError('ARTIFACT_INVALID', message);
  };
  const announce = (what: string) => writeAtomically(`${place}${BESIDE.digest}`, `${what}  ${id.artifact}\n`);
  requireSame(await digestOf(place).catch(() => undefined));
  await mkdir(dirname(place), { recursive: true });
  await announce(digest);
  if (key !== undefined) await addSignature({ ...id, digest }, place, key);
  if (!(await placeNew(archive, place))) {
    // Another process has just stored the artifact. If its content differs, the digest file must match that artifact.
    const there = await digestOf(place);
    await announce(there);
    requireSame(there);
  }
  return digest;
}

/**
 * Signs a package in a repository folder. Signatures by other keys stay.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND; DIGEST_MISMATCH if the package does not match its checksum file;
 *   SIGNATURE_INVALID if the signature file has another format
 */
export async function signStored(id: PackageId, repository: string, key: KeyObject): Promise<void> {
  const place = join(repository, pathOf(id));
  await addSignature({ ...id, digest: await announcedDigest(id, place) }, place, key);
}

async function addSignature(statement: Statement, place: string, key: KeyObject): Promise<void> {
  const path = `${place}${BESIDE.signatures}`;
  const before = await readIfThere(path);
  const signatures = before === undefined ? [] : readSignatures(before);
  if (signatures === undefined) {
    throw new AgentError('SIGNATURE_INVALID', `${path} is not a signature file of a package; move it away`);
  }
  const lines = new Set([...signatures, signPackage(statement, key)]);
  await writeAtomically(path, [...lines].map((line) => `${line}\n`).join(''));
}

/**
 * @returns SHA-256 in lower-case hexadecimal
 * @throws AgentError ARTIFACT_NOT_FOUND
 */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    const file = await openRegular(path);
    if (file === undefined) throw new Error('it is not a regular file');
    await pipeline(file.createReadStream(), hash);
  } catch (cause) {
    throw new AgentError('ARTIFACT_NOT_FOUND', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return hash.digest('hex');
}

/** The digest of a stored package, if agents would accept the package. */
async function announcedDigest(id: PackageId, place: string): Promise<string> {
  const digest = await digestOf(place);
  const checksums = await readIfThere(`${place}${BESIDE.digest}`);
  const [announced, ...others] = checksums === undefined ? [digest] : digestsFor(id.artifact, checksums.toString());
  if (announced === digest && others.length === 0) return digest;
  const message = `${pathOf(id)} has the digest sha256:${digest}, but its checksum file says otherwise, so agents refuse it; build the package again or fix the checksum file`;
  throw new AgentError('DIGEST_MISMATCH', message);
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    const file = await openRegular(path);
    if (file === undefined) throw new Error('it is not a regular file');
    return await file.readFile().finally(() => file.close());
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AgentError('ARTIFACT_UNREACHABLE', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** @returns false if the file already exists */
async function placeNew(archive: string, place: string): Promise<boolean> {
  const draft = draftBeside(place);
  try {
    await copyFile(archive, draft);
    await sync(draft);
    // Unlike a rename, a link never replaces an existing file.
    await link(draft, place);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Does not contain the final name, which may already have the maximum length. */
function draftBeside(path: string): string {
  return join(dirname(path), `.draft-${randomUUID()}`);
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const draft = draftBeside(path);
  try {
    await writeFile(draft, text);
    await rename(draft, path);
  } finally {
    await rm(draft, { force: true });
  }
}
