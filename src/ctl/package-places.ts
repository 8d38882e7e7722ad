import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ObjectBucket } from '../client/object-bucket.js';
import { AgentError } from '../errors.js';
import { bucketOf } from '../packages/object-store.js';
import { type PackageId, packagesIn, pathOf } from '../packages/repository.js';
import { type CommonOptions, connectOptions } from './options.js';

/* Package repositories as the command line names them. */

export interface PackageOptions extends CommonOptions {
  readonly repo: string;
}

/** The path of a repository that can be written to. `repo` is a folder or its file:// URL. */
export function folderOf(repo: string, expected = 'a folder'): string {
  if (repo.startsWith('file://') && URL.canParse(repo)) return fileURLToPath(repo);
  if (!repo.includes('://')) return resolve(repo);
  throw wrong(`Expected --repo to be ${expected}, got ${repo}`);
}

export function urlOf(repo: string): string {
  return repo.includes('://') ? repo : pathToFileURL(resolve(repo)).href;
}

export async function withBucket<T>(
  url: string,
  options: CommonOptions,
  work: (bucket: ObjectBucket) => Promise<T>,
): Promise<T> {
  if (!/^nats:\/\/[\w-]*$/.test(url)) throw wrong(`Expected an object store as nats://<bucket>, got ${url}`);
  const bucket = await ObjectBucket.connect(connectOptions(options), bucketOf(new URL(url)));
  try {
    return await work(bucket);
  } finally {
    await bucket.close();
  }
}

/**
 * The packages that match a selector: a package path, or the beginning of one.
 *
 * @throws AgentError ARTIFACT_NOT_FOUND when a selector matches no package
 */
export async function choose(selectors: readonly string[], repository: string): Promise<PackageId[]> {
  const all = await packagesIn(repository);
  for (const selector of selectors) {
    if (all.some((id) => isChosen(id, selector))) continue;
    throw new AgentError('ARTIFACT_NOT_FOUND', `There is no package ${selector} in ${repository}`);
  }
  return all.filter((id) => selectors.some((selector) => isChosen(id, selector)));
}

function isChosen(id: PackageId, selector: string): boolean {
  return `${pathOf(id)}/`.startsWith(`${selector.replace(/\/+$/, '')}/`);
}

export function wrong(message: string, cause?: unknown): AgentError {
  return new AgentError('CONFIG_INVALID', message, { cause });
}
