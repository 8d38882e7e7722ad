import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import { replaceFile, syncFolder } from './durable.js';
import { type FetchedFile, fetchFile } from './fetch.js';
import { FETCH_LIMITS, type FetchLimits, UNPACK_LIMITS, type UnpackLimits } from './limits.js';
import { locate } from './locate.js';
import { candidateUrls, shownUrl } from './location.js';
import { holdsFiles, type PackageRecord, readRecord } from './record.js';
import { requireArchiveName, unpack } from './unpack.js';
import { verifyArtifact } from './verify.js';

export interface PackageCacheOptions {
  /** A folder of the cache's own; nobody else may use it. */
  readonly dir: string;
  /** The repository for packages that name none. */
  readonly repoUrl: string | undefined;
  /** See {@link file://./platform.ts}. */
  readonly platform: string;
  readonly fetch?: Partial<FetchLimits>;
  readonly unpack?: Partial<UnpackLimits>;
}

/**
 * Packages on disk, fetched when they are first asked for:
 *
 *   <dir>/refs/<key>.json        what a package reference stands for, see PackageRecord
 *   <dir>/sha256/<digest>/       an unpacked artifact; references with the same artifact share it
 *   <dir>/tmp/                   what is in the making; emptied by open()
 */
export class PackageCache {
  readonly #options: PackageCacheOptions;
  readonly #fetchLimits: FetchLimits;
  readonly #unpackLimits: UnpackLimits;
  readonly #stop = new AbortController();
  /** By key. Two requests for one package share one download. */
  readonly #pending = new Map<string, Promise<PackageRecord>>();
  /** Installing and collecting, one at a time: collecting must not see a folder whose record is not written yet. */
  #exclusive: Promise<unknown> = Promise.resolve();

  constructor(options: PackageCacheOptions) {
    this.#options = options;
    this.#fetchLimits = { ...FETCH_LIMITS, ...options.fetch };
    this.#unpackLimits = { ...UNPACK_LIMITS, ...options.unpack };
  }

  /** Makes the folders and removes what a crash left half-made. */
  async open(): Promise<void> {
    await rm(this.#path('tmp'), { recursive: true, force: true });
    for (const folder of ['tmp', 'refs', 'sha256']) {
      await mkdir(this.#path(folder), { recursive: true, mode: 0o700 });
    }
  }

  /** Gives up downloads that are under way; whoever waits for them gets ARTIFACT_UNREACHABLE. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#pending.values());
  }

  /**
   * The folder of an unpacked package. What is cached is used without asking the repository, also for a version named `latest`;
   * a cached package that was altered or is incomplete is fetched again.
   *
   * @returns absolute path; the content lies there as the archive has it
   * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE, ARTIFACT_INVALID, DIGEST_MISMATCH;
   *   UNSUPPORTED or INVALID_FIELD for a reference that makes no URL
   */
  async ensure(ref: PackageRef): Promise<string> {
    return this.#folder(await this.#obtain(ref));
  }

  /**
   * The absolute path of a file of a package, fetching the package if need be. The file lies at the top of the archive or in
   * the one folder that is there.
   *
   * @throws AgentError OBJECT_FILE_NOT_FOUND listing what the package holds, and what ensure() throws
   */
  async objectPath(ref: PackageRef, objectFile: string): Promise<string> {
    const record = await this.#obtain(ref);
    return join(this.#folder(record), locate(ref, objectFile, record.files));
  }

  /** Removes every package that is neither named nor being fetched. */
  async collect(keep: readonly PackageRef[]): Promise<void> {
    await this.#exclusively(async () => {
      const kept = new Set([...keep.map((ref) => this.#key(ref)), ...this.#pending.keys()]);
      const digests = new Set<string>();
      for (const name of await readdir(this.#path('refs'))) {
        const path = this.#path('refs', name);
        const record = kept.has(name.replace(/\.json$/, '')) ? await readRecord(path) : undefined;
        if (record === undefined) await rm(path, { recursive: true, force: true });
        else digests.add(record.digest);
      }
      for (const digest of await readdir(this.#path('sha256'))) {
        if (!digests.has(digest)) await rm(this.#path('sha256', digest), { recursive: true, force: true });
      }
    });
  }

  #obtain(ref: PackageRef): Promise<PackageRecord> {
    const key = this.#key(ref);
    const known = this.#pending.get(key);
    if (known !== undefined) return known;
    const pending = this.#provide(ref, this.#path('refs', `${key}.json`)).finally(() => this.#pending.delete(key));
    this.#pending.set(key, pending);
    return pending;
  }

  async #provide(ref: PackageRef, recordPath: string): Promise<PackageRecord> {
    const record = await readRecord(recordPath);
    if (record !== undefined && (await holdsFiles(this.#folder(record), record.files))) return record;

    requireArchiveName(ref.artifact);
    const urls = candidateUrls(ref, this.#repoUrl(ref), this.#options.platform);
    const work = await mkdtemp(this.#path('tmp', 'fetch-'));
    try {
      const { url, artifact } = await this.#fetchFirst(urls, join(work, 'artifact'));
      await verifyArtifact(artifact, url, this.#fetchLimits, this.#stop.signal);
      const files = await unpack(ref.artifact, artifact, join(work, 'content'), this.#unpackLimits);
      const { digest } = artifact;
      const fetched = { digest, url: shownUrl(url), fetchedAt: new Date().toISOString(), files };
      await this.#exclusively(() => this.#install(work, fetched, recordPath));
      return fetched;
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  async #fetchFirst(urls: readonly URL[], path: string): Promise<{ url: URL; artifact: FetchedFile }> {
    let missing: unknown;
    for (const url of urls) {
      try {
        return { url, artifact: await fetchFile(url, path, this.#fetchLimits, this.#stop.signal) };
      } catch (error) {
        if (!(error instanceof AgentError) || error.code !== 'ARTIFACT_NOT_FOUND') throw error;
        missing = error;
      }
    }
    const message = `No such package: there is nothing at ${urls.map(shownUrl).join(' or ')}`;
    throw new AgentError('ARTIFACT_NOT_FOUND', message, { cause: missing });
  }

  /** The folder first and the record last: a crash in between leaves a folder without a record, which collect() removes. */
  async #install(work: string, record: PackageRecord, recordPath: string): Promise<void> {
    const folder = this.#folder(record);
    if (!(await holdsFiles(folder, record.files))) {
      await rename(folder, join(work, 'altered')).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      await rename(join(work, 'content'), folder);
      await syncFolder(dirname(folder));
    }
    await replaceFile(recordPath, JSON.stringify(record), join(work, 'record'));
  }

  async #exclusively(task: () => Promise<void>): Promise<void> {
    const turn = this.#exclusive.then(task);
    this.#exclusive = turn.catch(() => {});
    await turn;
  }

  #repoUrl(ref: PackageRef): string | undefined {
    return ref.repoUrl || this.#options.repoUrl;
  }

  #key(ref: PackageRef): string {
    const identity = [this.#repoUrl(ref) ?? '', ref.name, ref.version, this.#options.platform, ref.artifact];
    return createHash('sha256').update(JSON.stringify(identity)).digest('hex');
  }

  #folder(record: PackageRecord): string {
    return this.#path('sha256', record.digest);
  }

  #path(...names: string[]): string {
    return resolve(this.#options.dir, ...names);
  }
}
