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
  /** A folder of the cache's own; nobody else may use it. */
  readonly dir: string;
  /** The repository for packages that name none. */
  readonly repoUrl: string | undefined;
  /** See {@link file://./platform.ts}. */
  readonly platform: string;
  /** Off unless given. */
  readonly signatures?: SignatureRules;
  readonly fetch?: Partial<FetchLimits>;
  readonly unpack?: Partial<UnpackLimits>;
  readonly keep?: Partial<KeepLimits>;
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
  readonly #signatures: SignatureRules;
  readonly #transport: Transport;
  readonly #unpackLimits: UnpackLimits;
  readonly #keepLimits: KeepLimits;
  readonly #stop = new AbortController();
  /** By key. Two requests for one package share one download. */
  readonly #pending = new Map<string, Promise<PackageRecord>>();
  /** Installing and collecting, one at a time: collecting must not see a folder whose record is not written yet. */
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

  /** Makes the folders and removes what a crash left half-made. */
  async open(): Promise<void> {
    await rm(this.#path('tmp'), { recursive: true, force: true });
    await this.#makeFolders();
  }

  /** Also while it is open: it is only a cache, and who removes it must not stop the agent. */
  async #makeFolders(): Promise<void> {
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
   * a cached package that was altered, is incomplete, or is not signed as the rules now want it, is fetched again.
   *
   * @returns absolute path; the content lies there as the archive has it
   * @throws AgentError ARTIFACT_NOT_FOUND, ARTIFACT_UNREACHABLE, ARTIFACT_TOO_LARGE, ARTIFACT_INVALID, DIGEST_MISMATCH,
   *   SIGNATURE_MISSING, SIGNATURE_INVALID; UNSUPPORTED or INVALID_FIELD for a reference that makes no URL
   */
  async ensure(ref: PackageRef): Promise<string> {
    return this.#folder(await this.#obtain(ref));
  }

  /** What is known of a package: digest, files and where it came from; fetching it if need be. Throws what ensure() throws. */
  inspect(ref: PackageRef): Promise<PackageRecord> {
    return this.#obtain(ref);
  }

  /**
   * The absolute path of a file of a package, fetching the package if need be. The file lies at the top of the archive or in
   * the one folder that is there.
   *
   * @throws AgentError OBJECT_FILE_NOT_FOUND listing what the package holds, and what ensure() throws
   */
  async objectPath(ref: PackageRef, objectFile: string): Promise<string> {
    const record = await this.#obtain(ref);
    const file = locate(ref, objectFile, record.files);
    const path = join(this.#folder(record), file.path);
    if (await hasContent(this.#folder(record), file)) return path;
    // Its name did not tell that it is to be loaded. Where it is missing, the package is fetched again.
    await rm(path, { force: true });
    await this.#obtain(ref);
    return path;
  }

  /**
   * Removes packages that are neither named nor being fetched, and have not been used for long; the longest unused ones sooner where
   * all of them together are too large.
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
      // Only collect() looks at it; on a disk that has become read-only what is cached can still be used.
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

  /** By the rules of now, which may be stricter than those it was fetched under. What the rules did not ask for then is not known. */
  #isTrusted(ref: PackageRef, { digest, platform, signatures }: PackageRecord): boolean {
    if (this.#signatures.policy === 'off') return true;
    if (signatures === undefined) return false;
    try {
      requireSignature({ ...ref, platform, digest }, signatures, this.#signatures);
      return true;
    } catch {
      // Fetching it again tells what is wrong, unless a new signature lies there by now.
      return false;
    }
  }

  /** The folder first and the record last: a crash in between leaves a folder without a record, which collect() removes. */
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
