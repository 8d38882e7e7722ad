import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rename, rm, utimes } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { PackageRef } from '../domain/program.js';
import { blamingDisk } from '../errors.js';
import { collectUnused } from './collect.js';
import { replaceFile, sync } from './durable.js';
import {
  FETCH_LIMITS,
  type FetchLimits,
  KEEP_LIMITS,
  type KeepLimits,
  UNPACK_LIMITS,
  type UnpackLimits,
} from './limits.js';
import { locate } from './locate.js';
import { obtainPackage } from './obtain.js';
import { hasContent, holdsFiles, type PackageRecord, readRecord } from './record.js';
import { requireSignature, type SignatureRules } from './signature.js';
import type { Transport } from './transport.js';

export interface PackageCacheOptions extends Pick<Transport, 'caFile' | 'env' | 'objects' | 'onFetched'> {
  /** The cache's own folder. Nothing else may use it. */
  readonly dir: string;
  /** The repository for packages that do not name one. */
  readonly repoUrl: string | undefined;
  /** See {@link file://./platform.ts}. */
  readonly platform: string;
  /** Off by default. */
  readonly signatures?: SignatureRules;
  readonly fetch?: Partial<FetchLimits>;
  readonly unpack?: Partial<UnpackLimits>;
  readonly keep?: Partial<KeepLimits>;
}

/**
 * Packages on disk. A package is fetched when it is first needed.
 *
 *   <dir>/refs/<key>.json        what a package reference stands for, see PackageRecord
 *   <dir>/sha256/<digest>/       an unpacked artifact; references with the same artifact share it
 *   <dir>/tmp/                   unfinished work; emptied by open()
 */
export class PackageCache {
  readonly #options: PackageCacheOptions;
  readonly #signatures: SignatureRules;
  readonly #transport: Transport;
  readonly #unpackLimits: UnpackLimits;
  readonly #keepLimits: KeepLimits;
  readonly #stop = new AbortController();
  /** By key. Two requests for the same package share one download. */
  readonly #pending = new Map<string, Promise<PackageRecord>>();
  /** Installs and collects, one at a time: collect() must not see a folder whose record is not written yet. */
  #exclusive: Promise<unknown> = Promise.resolve();

  constructor(options: PackageCacheOptions) {
    this.#options = options;
    const { caFile, env, objects, onFetched } = options;
    this.#signatures = options.signatures ?? { policy: 'off', keys: [] };
    const limits = { ...FETCH_LIMITS, ...options.fetch };
    this.#transport = {
      limits,
      stop: this.#stop.signal,
      caFile,
      ...(env !== undefined && { env }),
      objects,
      onFetched,
    };
    this.#unpackLimits = { ...UNPACK_LIMITS, ...options.unpack };
    this.#keepLimits = { ...KEEP_LIMITS, ...options.keep };
  }

  /** Creates the folders and removes unfinished work that a crash left. */
  async open(): Promise<void> {
    await rm(this.#path('tmp'), { recursive: true, force: true });
    await this.#makeFolders();
  }

  /** Also runs before each fetch: the agent must go on even if somebody removes the cache. */
  async #makeFolders(): Promise<void> {
    for (const folder of ['tmp', 'refs', 'sha256']) {
      await mkdir(this.#path(folder), { recursive: true, mode: 0o700 });
    }
  }

  /** Aborts running downloads; callers that wait for them get ARTIFACT_UNREACHABLE. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#pending.values());
  }

  /**
   * The folder of an unpacked package. A cached package is used without asking the repository, even for a version named
   * `latest`. It is fetched again if it was altered, is incomplete, or is not signed as the current rules require.
   *
   * @returns absolute path of the folder with the archive's content
   * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE, ARTIFACT_INVALID, DIGEST_MISMATCH,
   *   SIGNATURE_MISSING, SIGNATURE_INVALID; UNSUPPORTED or INVALID_FIELD for a reference that makes no URL
   */
  async ensure(ref: PackageRef): Promise<string> {
    return this.#folder(await this.#obtain(ref));
  }

  /**
   * The record of a package: digest, files and origin. Fetches the package if necessary. Throws what ensure() throws.
   */
  inspect(ref: PackageRef): Promise<PackageRecord> {
    return this.#obtain(ref);
  }

  /**
   * The absolute path of a file of a package. Fetches the package if necessary. The file is at the top of the archive
   * or in its single top-level folder.
   *
   * @throws AgentError OBJECT_FILE_NOT_FOUND listing what the package holds, and what ensure() throws
   */
  async objectPath(ref: PackageRef, objectFile: string): Promise<string> {
    const record = await this.#obtain(ref);
    const file = locate(ref, objectFile, record.files);
    const path = join(this.#folder(record), file.path);
    if (await hasContent(this.#folder(record), file)) return path;
    // Only now it is clear that this file is loaded, so its content was not checked before. Once it is removed, #obtain
    // fetches the package again.
    await rm(path, { force: true });
    await this.#obtain(ref);
    return path;
  }

  /**
   * Removes packages that are not in `asked`, are not being fetched, and have not been used for a long time. If all of
   * them together are too large, the least recently used ones are removed earlier.
   */
  async collect(asked: readonly PackageRef[]): Promise<void> {
    await this.#exclusively(async () => {
      await this.#makeFolders();
      const inUse = new Set([...asked.map((ref) => this.#key(ref)), ...this.#pending.keys()]);
      await collectUnused(this.#options.dir, inUse, this.#keepLimits);
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
    if (
      record !== undefined &&
      this.#isTrusted(ref, record) &&
      (await holdsFiles(this.#folder(record), record.files))
    ) {
      const now = new Date();
      // Only collect() needs the time. The cache stays usable on a disk that has become read-only.
      await utimes(recordPath, now, now).catch(() => {});
      return record;
    }
    try {
      return await this.#fetch(ref, recordPath);
    } catch (error) {
      throw blamingDisk(`The package cache ${this.#options.dir}`, error);
    }
  }

  async #fetch(ref: PackageRef, recordPath: string): Promise<PackageRecord> {
    await this.#makeFolders();
    const work = await mkdtemp(this.#path('tmp', 'fetch-'));
    try {
      const fetched = await obtainPackage(ref, work, {
        repoUrl: this.#repoUrl(ref),
        platform: this.#options.platform,
        signatures: this.#signatures,
        transport: this.#transport,
        unpackLimits: this.#unpackLimits,
      });
      await this.#exclusively(() => this.#install(work, fetched, recordPath));
      return fetched;
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** Checks the current rules, which may be stricter than those at the time of the fetch. */
  #isTrusted(ref: PackageRef, { digest, platform, signatures }: PackageRecord): boolean {
    if (this.#signatures.policy === 'off') return true;
    if (signatures === undefined) return false;
    try {
      requireSignature({ ...ref, platform, digest }, signatures, this.#signatures);
      return true;
    } catch {
      // The new fetch reports the fault, or finds a new signature in the repository.
      return false;
    }
  }

  /**
   * Installs the folder first and the record last: a crash in between leaves a folder without record, which collect()
   * removes.
   */
  async #install(work: string, record: PackageRecord, recordPath: string): Promise<void> {
    const folder = this.#folder(record);
    if (!(await holdsFiles(folder, record.files))) {
      await rename(folder, join(work, 'altered')).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      await rename(join(work, 'content'), folder);
      await sync(dirname(folder));
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
    const { name, version, artifact, sha256 = '' } = ref;
    const identity = [this.#repoUrl(ref) ?? '', name, version, this.#options.platform, artifact, sha256];
    return createHash('sha256').update(JSON.stringify(identity)).digest('hex');
  }

  #folder(record: PackageRecord): string {
    return this.#path('sha256', record.digest);
  }

  #path(...names: string[]): string {
    return resolve(this.#options.dir, ...names);
  }
}
