import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ObjectBucket, StoredEntry } from '../client/object-bucket.js';
import { AgentError } from '../errors.js';
import { BESIDE, digestOf, pathOf } from '../packages/repository.js';
import type { CommonOptions } from './options.js';
import { choose, folderOf, withBucket } from './package-places.js';
import { progressLine } from './progress.js';

export interface Pushed {
  readonly path: string;
  readonly result: 'stored' | 'unchanged';
}

/** @throws AgentError */
export async function pushPackages(
  selectors: readonly string[],
  repo: string,
  to: string,
  options: CommonOptions,
): Promise<Pushed[]> {
  const repository = folderOf(repo);
  const chosen = await choose(selectors, repository);
  return withBucket(to, options, async (bucket) => {
    const pushed: Pushed[] = [];
    for (const path of chosen.map(pathOf)) {
      const stored = await pushPackage(path, repository, bucket);
      pushed.push({ path, result: stored ? 'stored' : 'unchanged' });
    }
    return pushed;
  });
}

/**
 * Stores the artifact last: an agent that finds it also finds its checksum and signature files. An artifact that
 * already exists is kept, but its signatures are replaced.
 *
 * @returns whether anything had to be stored
 */
async function pushPackage(path: string, repository: string, bucket: ObjectBucket): Promise<boolean> {
  const digest = await digestOf(join(repository, path));
  requireSame(path, await bucket.find(path), digest);
  const beside = await pushBeside(path, repository, bucket);
  const content = verified(join(repository, path), digest);
  const stored = await withProgress(path, repository, (onProgress) => bucket.put(path, { content, onProgress }, false));
  if (stored) {
    // Meanwhile, another push with different content may have replaced these files. That push fails, so restore them.
    await pushBeside(path, repository, bucket);
    return true;
  }
  const there = await bucket.find(path);
  if (there?.digest !== undefined && there.digest !== digest) {
    const announcement = Buffer.from(`${there.digest}  ${basename(path)}\n`);
    await bucket.put(`${path}${BESIDE.digest}`, { content: inOnePiece(announcement) }, true);
  }
  requireSame(path, there, digest);
  return beside;
}

function requireSame(path: string, there: StoredEntry | undefined, digest: string): void {
  if (there === undefined || there.digest === digest) return;
  const message = `${path} is already in the object store with other content; agents never fetch a cached version again, so choose a new version`;
  throw new AgentError('ARTIFACT_INVALID', message);
}

/** @returns whether anything had to be stored */
async function pushBeside(path: string, repository: string, bucket: ObjectBucket): Promise<boolean> {
  let stored = false;
  for (const file of [`${path}${BESIDE.digest}`, `${path}${BESIDE.signatures}`]) {
    const place = join(repository, file);
    if ((await stat(place).catch(() => undefined)) === undefined) continue;
    const digest = await digestOf(place);
    const there = await bucket.find(file);
    if (there?.digest === digest) continue;
    if (there !== undefined && there.digest === undefined) {
      throw new AgentError(
        'ARTIFACT_INVALID',
        `${file} in the object store is a link or not an object; remove it first`,
      );
    }
    await bucket.put(file, { content: verified(place, digest) }, true);
    stored = true;
  }
  return stored;
}

async function withProgress<T>(
  path: string,
  repository: string,
  work: (onProgress: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  const { size } = await stat(join(repository, path));
  const progress = progressLine(path, size, process.stderr);
  try {
    return await work((bytes) => progress.advance(bytes));
  } finally {
    progress.end();
  }
}

/** Reads a file. Throws at its end if the content no longer has the given digest. */
async function* verified(place: string, digest: string): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(place) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    yield chunk;
  }
  if (hash.digest('hex') === digest) return;
  throw new AgentError('ARTIFACT_INVALID', `${place} was changed while it was read; push it again`);
}

async function* inOnePiece(content: Buffer): AsyncGenerator<Buffer> {
  yield content;
}
