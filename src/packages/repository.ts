import { createHash, type KeyObject, randomUUID } from 'node:crypto';
import { copyFile, link, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AgentError } from '../errors.js';
import { digestsFor } from './checksums.js';
import { sync } from './durable.js';
import { openRegular } from './regular-file.js';
import { readSignatures, type Statement, signPackage } from './signature.js';

/** A package of a repository; its path there is all four, with `/` between them. */
export type PackageId = Omit<Statement, 'digest'>;

/** What lies beside an artifact. */
export const BESIDE = { digest: '.sha256', signatures: '.sig' } as const;

const ARCHIVE = /^\w[\w.+~-]{0,240}\.(tar\.gz|tgz|zip)$/;
const SEGMENT = /^(?!.*\.\.)[A-Za-z0-9][\w.-]{0,62}$/;

/**
 * @param path `<name>/<version>/<platform>/<artifact>`
 * @returns undefined for what is no package's path, the files beside an artifact among it
 */
export function packageAt(path: string): PackageId | undefined {
  const [name = '', version = '', platform = '', artifact = '', ...rest] = path.split('/');
  const whole = [name, version, platform].every((segment) => SEGMENT.test(segment)) && ARCHIVE.test(artifact);
  return whole && rest.length === 0 ? { name, version, platform, artifact } : undefined;
}

export function pathOf({ name, version, platform, artifact }: PackageId): string {
  return [name, version, platform, artifact].join('/');
}

/** The packages of a repository in a folder, in the order of their paths. */
export async function packagesIn(repository: string): Promise<PackageId[]> {
  try {
    let paths = await readdir(repository);
    // Not deeper than packages lie: somebody's link to a folder further up would have no end.
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
 * Puts an archive into a repository in a folder, with its digest and, given a key, its signature beside it. The artifact comes last: an
 * agent that finds it finds all.
 *
 * @returns its SHA-256 in lower-case hexadecimal
 * @throws AgentError ARTIFACT_INVALID when another archive has this place: versions are immutable; SIGNATURE_INVALID
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
    const message = `${pathOf(id)} is in ${repository} already, with other content; agents keep what they have of a version, so choose a new one`;
    throw new AgentError('ARTIFACT_INVALID', message);
  };
  const announce = (what: string) => writeAtomically(`${place}${BESIDE.digest}`, `${what}  ${id.artifact}\n`);
  requireSame(await digestOf(place).catch(() => undefined));
  await mkdir(dirname(place), { recursive: true });
  await announce(digest);
  if (key !== undefined) await addSignature({ ...id, digest }, place, key);
  if (!(await placeNew(archive, place))) {
    // Somebody else was first, just now, and may have other content: then what was announced is not what is there.
    const there = await digestOf(place);
    await announce(there);
    requireSame(there);
  }
  return digest;
}

/**
 * Signs a package of a repository in a folder; signatures by other keys stay beside it.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND; DIGEST_MISMATCH for a package that its checksum file does not fit, SIGNATURE_INVALID where there
 *   is a signature file of another kind
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
    throw new AgentError('SIGNATURE_INVALID', `${path} holds something else than signatures of packages: move it away`);
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

/** What lies in a place, provided that it is what agents would take. */
async function announcedDigest(id: PackageId, place: string): Promise<string> {
  const digest = await digestOf(place);
  const checksums = await readIfThere(`${place}${BESIDE.digest}`);
  const [announced, ...others] = checksums === undefined ? [digest] : digestsFor(id.artifact, checksums.toString());
  if (announced === digest && others.length === 0) return digest;
  const message = `${pathOf(id)} has the digest sha256:${digest}, but the checksum file beside it says something else; agents would refuse it`;
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

/** @returns false if something has the place already */
async function placeNew(archive: string, place: string): Promise<boolean> {
  const draft = draftBeside(place);
  try {
    await copyFile(archive, draft);
    await sync(draft);
    // Unlike a rename, it takes nobody's place.
    await link(draft, place);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Not made of the name that it is for, which may be as long as a name can be. */
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
