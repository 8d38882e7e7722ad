import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ObjectBucket } from '../client/object-bucket.js';
import { AgentError } from '../errors.js';
import { buildArchive } from '../packages/build.js';
import { PackageCache } from '../packages/cache.js';
import { generateKeys, readPrivateKey, readTrustedKeys } from '../packages/keys.js';
import { bucketOf } from '../packages/object-store.js';
import {
  BESIDE,
  type PackageId,
  packageAt,
  packagesIn,
  pathOf,
  signStored,
  storeArchive,
} from '../packages/repository.js';
import type { PackageFile } from '../packages/unpack.js';
import type { CommonOptions } from './options.js';
import { choose, folderOf, type PackageOptions, urlOf, withBucket, wrong } from './package-places.js';

export interface BuildOptions extends PackageOptions {
  readonly platform: string;
  readonly artifact?: string;
  readonly key?: string;
}

export interface VerifyOptions extends PackageOptions {
  readonly trust?: string;
  readonly repoTlsCa?: string;
}

export interface Built {
  readonly path: string;
  readonly files: number;
  readonly bytes: number;
  readonly digest: string;
  readonly signed: boolean;
}

export interface Listed extends PackageId {
  readonly bytes: number;
  readonly signed: boolean;
}

export interface Verified {
  readonly digest: string;
  readonly signature: 'signed by a trusted key' | 'signature not looked at';
  readonly files: readonly PackageFile[];
}

/** @throws AgentError, like all functions here */
export async function buildPackage(
  folder: string,
  name: string,
  version: string,
  options: BuildOptions,
): Promise<Built> {
  const repository = folderOf(options.repo);
  const path = [name, version, options.platform, options.artifact ?? `${name}.tar.gz`].join('/');
  const id = requirePackage(path);
  if (!id.artifact.endsWith('.tar.gz')) throw wrong(`Expected --artifact to end in .tar.gz, got ${id.artifact}`);
  const key = options.key === undefined ? undefined : await readPrivateKey(options.key);
  return withScratch(async (scratch) => {
    const archive = join(scratch, id.artifact);
    await buildArchive(folder, name, archive);
    const { files } = await looked(id, pathToFileURL(await repositoryWith(id, archive, scratch)).href, scratch, {});
    const digest = await storeArchive(archive, id, repository, key);
    const { size: bytes } = await stat(archive);
    return { path: join(repository, path), files: files.length, bytes, digest, signed: key !== undefined };
  });
}

export async function signPackages(selectors: readonly string[], repo: string, keyFile: string): Promise<string[]> {
  const repository = folderOf(repo);
  const key = await readPrivateKey(keyFile);
  const chosen = await choose(selectors, repository);
  for (const id of chosen) await signStored(id, repository, key);
  return chosen.map(pathOf);
}

export async function verifyPackage(path: string, options: VerifyOptions): Promise<Verified> {
  const id = requirePackage(path);
  const trusted = options.trust?.split(',').map((entry) => entry.trim());
  return withScratch(async (scratch) => {
    const verify = (bucket?: ObjectBucket) => looked(id, urlOf(options.repo), scratch, { ...options, trusted, bucket });
    return options.repo.startsWith('nats://') ? withBucket(options.repo, options, verify) : verify();
  });
}

export async function listPackages(repo: string, options: CommonOptions): Promise<Listed[]> {
  if (repo.startsWith('nats://')) {
    const entries = await withBucket(repo, options, (bucket) => bucket.list());
    if (entries === undefined) {
      const message = `There is no object store ${bucketOf(new URL(repo))} on this server; l3afctl package push creates it`;
      throw new AgentError('ARTIFACT_NOT_FOUND', message);
    }
    const objects = entries.filter(({ digest }) => digest !== undefined);
    return listedOf(new Map(objects.map(({ name, size }) => [name, size])));
  }
  const repository = folderOf(repo, 'a folder or an object store as nats://<bucket>');
  const sizes = new Map<string, number>();
  for (const path of (await packagesIn(repository)).map(pathOf)) {
    for (const file of [path, `${path}${BESIDE.signatures}`]) {
      const found = await stat(join(repository, file)).catch(() => undefined);
      if (found !== undefined) sizes.set(file, found.size);
    }
  }
  return listedOf(sizes);
}

export async function makeKeys(file: string) {
  const { privateKey, publicKey } = generateKeys();
  const publicKeyFile = `${file}.pub`;
  const written: string[] = [];
  const write = async (path: string, text: string, mode: number) => {
    const made = await open(path, 'wx', mode);
    written.push(path);
    await made.writeFile(text).finally(() => made.close());
  };
  try {
    await write(file, privateKey, 0o600);
    await write(publicKeyFile, `${publicKey}\n`, 0o644);
  } catch (cause) {
    for (const path of written) await rm(path, { force: true });
    throw wrong(`The keys cannot be written: ${(cause as Error).message}`, cause);
  }
  return { privateKey: file, publicKeyFile, publicKey };
}

interface Looking {
  readonly trusted?: readonly string[] | undefined;
  readonly repoTlsCa?: string;
  readonly bucket?: ObjectBucket | undefined;
}

/** Checks a package with the package cache that agents use. */
async function looked(id: PackageId, repoUrl: string, scratch: string, options: Looking): Promise<Verified> {
  const { trusted, bucket } = options;
  const keys = await readTrustedKeys(trusted ?? []);
  const cache = new PackageCache({
    dir: join(scratch, 'cache'),
    repoUrl,
    platform: id.platform,
    caFile: options.repoTlsCa,
    signatures: { policy: trusted === undefined ? 'off' : 'required', keys },
    objects: bucket && { open: (_bucket, name, signal) => bucket.open(name, signal) },
  });
  await cache.open();
  const { digest, files, platform, url } = await cache.inspect({ ...id, repoUrl: '' });
  if (platform !== id.platform) {
    const message = `There is no ${pathOf(id)} in the repository; agents on ${id.platform} would use ${url}`;
    throw new AgentError('ARTIFACT_NOT_FOUND', message);
  }
  const signature = trusted === undefined ? 'signature not looked at' : 'signed by a trusted key';
  return { digest, signature, files };
}

/** Puts the archive into a temporary repository, so that it can be checked before it is published. */
async function repositoryWith(id: PackageId, archive: string, scratch: string): Promise<string> {
  const repository = join(scratch, 'repository');
  await storeArchive(archive, id, repository);
  return repository;
}

function listedOf(sizes: ReadonlyMap<string, number>): Listed[] {
  return [...sizes]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([path, bytes]) => {
      const id = packageAt(path);
      return id === undefined ? [] : [{ ...id, bytes, signed: sizes.has(`${path}${BESIDE.signatures}`) }];
    });
}

function requirePackage(path: string): PackageId {
  const id = packageAt(path);
  if (id !== undefined) return id;
  throw wrong(`Expected <name>/<version>/<platform>/<artifact> with an archive that agents accept, got ${path}`);
}

async function withScratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'l3afctl-package-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
