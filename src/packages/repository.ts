import { createHash, type KeyObject, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AgentError } from '../errors.js';
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
    const paths = await readdir(repository, { recursive: true });
    return paths.toSorted().flatMap((path) => packageAt(path) ?? []);
  } catch (cause) {
    const message = `The repository ${repository} cannot be read: ${(cause as Error).message}`;
    throw new AgentError('ARTIFACT_UNREACHABLE', message, { cause });
  }
}

/**
 * Puts an archive into a repository in a folder, with its digest beside it. The artifact comes last: an agent that finds it finds all.
 *
 * @returns its SHA-256 in lower-case hexadecimal
 * @throws AgentError ARTIFACT_INVALID when another archive has this place: versions are immutable
 */
export async function storeArchive(archive: string, id: PackageId, repository: string): Promise<string> {
  const place = join(repository, pathOf(id));
  const digest = await digestOf(archive);
  const there = await digestOf(place).catch(() => undefined);
  if (there !== undefined && there !== digest) {
    const message = `${pathOf(id)} is in ${repository} already, with other content; agents keep what they have of a version, so choose a new one`;
    throw new AgentError('ARTIFACT_INVALID', message);
  }
  await mkdir(join(place, '..'), { recursive: true });
  await writeAtomically(`${place}${BESIDE.digest}`, `${digest}  ${id.artifact}\n`);
  const draft = `${place}.${randomUUID()}`;
  await copyFile(archive, draft);
  await rename(draft, place);
  return digest;
}

/**
 * Signs a package of a repository in a folder; signatures by other keys stay beside it.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND
 */
export async function signStored(id: PackageId, repository: string, key: KeyObject): Promise<void> {
  const place = join(repository, pathOf(id));
  const digest = await digestOf(place);
  const signature = signPackage({ ...id, digest }, key);
  const before = await readFile(`${place}${BESIDE.signatures}`).then(readSignatures, () => undefined);
  const signatures = new Set([...(before ?? []), signature]);
  await writeAtomically(`${place}${BESIDE.signatures}`, [...signatures].map((line) => `${line}\n`).join(''));
}

/**
 * @returns SHA-256 in lower-case hexadecimal
 * @throws AgentError ARTIFACT_NOT_FOUND
 */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash);
  } catch (cause) {
    throw new AgentError('ARTIFACT_NOT_FOUND', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return hash.digest('hex');
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  try {
    await writeFile(draft, text);
    await rename(draft, path);
  } finally {
    await rm(draft, { force: true });
  }
}
