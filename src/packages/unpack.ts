import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../errors.js';
import { type ArchiveEntry, type ArchivePart, createMeter, invalid, type Meter } from './archive.js';
import { sync } from './durable.js';
import { entryPath, foldersAbove } from './entry-path.js';
import type { FetchedFile } from './fetch.js';
import type { UnpackLimits } from './limits.js';
import { readTar } from './tar.js';
import { readZip } from './zip.js';

/** A file of an unpacked package. */
export interface PackageFile {
  /** Relative to the package's folder, with `/` between names. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** In lower-case hexadecimal. */
  readonly sha256: string;
  readonly executable: boolean;
}

type Reader = (path: string, meter: Meter) => AsyncIterable<ArchivePart>;

const READERS: Readonly<Record<string, Reader>> = { '.tar.gz': readTar, '.tgz': readTar, '.zip': readZip };

/** @throws AgentError ARTIFACT_INVALID for a name without the ending of an archive that the agent can unpack */
export function requireArchiveName(artifact: string): void {
  readerFor(artifact);
}

/**
 * Unpacks an archive to a folder that does not exist yet. The content is on disk when this returns. Permissions are
 * 0755 for executable files and 0644 for others. After an error the folder may hold a part of the content.
 *
 * @param artifact name of the archive; the ending gives its format
 * @throws AgentError ARTIFACT_INVALID for anything but plain files and folders within the folder, ARTIFACT_TOO_LARGE
 */
export async function unpack(
  artifact: string,
  archive: FetchedFile,
  folder: string,
  limits: UnpackLimits,
): Promise<readonly PackageFile[]> {
  const read = readerFor(artifact);
  const writer = new FolderWriter(folder, limits.maxEntries);
  try {
    await writer.open();
    for await (const part of read(archive.path, createMeter(archive.size, limits))) {
      if (part instanceof Uint8Array) await writer.append(part);
      else await writer.begin(part);
    }
    return await writer.finish();
  } catch (error) {
    throw refusalOf(artifact, error);
  } finally {
    await writer.close();
  }
}

function readerFor(artifact: string): Reader {
  const ending = Object.keys(READERS).find((known) => artifact.length > known.length && artifact.endsWith(known));
  const reader = ending === undefined ? undefined : READERS[ending];
  if (reader !== undefined) return reader;
  const message = `Artifact ${artifact} is not a package: expected a name that ends in ${Object.keys(READERS).join(', ')}`;
  throw new AgentError('ARTIFACT_INVALID', message);
}

/** Faults of this host (such as a full disk) keep their code. All others are faults of the archive. */
function refusalOf(artifact: string, error: unknown): unknown {
  if (!(error instanceof Error) || 'syscall' in error) return error;
  const code = error instanceof AgentError ? error.code : 'ARTIFACT_INVALID';
  return new AgentError(code, `Artifact ${artifact} is refused: ${error.message}`, { cause: error });
}

interface UnpackedFile {
  readonly path: string;
  readonly executable: boolean;
  readonly handle: FileHandle;
  readonly hash: Hash;
  size: number;
}

/**
 * Writes entries into a folder. Makes no links and opens no existing files, so nothing is written outside the folder.
 */
class FolderWriter {
  readonly #root: string;
  readonly #maxEntries: number;
  readonly #folders = new Set<string>();
  readonly #files = new Map<string, PackageFile>();
  #entries = 0;
  #current: UnpackedFile | undefined;

  constructor(root: string, maxEntries: number) {
    this.#root = root;
    this.#maxEntries = maxEntries;
  }

  async open(): Promise<void> {
    await mkdir(this.#root, { mode: 0o755 });
  }

  async begin(entry: ArchiveEntry): Promise<void> {
    await this.#finishFile();
    // Plus one for the folder itself (`./`). Repeated entries for one folder count too, since each takes time.
    if (++this.#entries > this.#maxEntries + 1) throw this.#tooMany();
    const path = entryPath(entry.path);
    const { type, mode } = entry;
    if (type !== 'file' && type !== 'directory') throw invalid(`${JSON.stringify(path)} is a ${type}`);
    if ((mode & 0o6000) !== 0) throw invalid(`${JSON.stringify(path)} has a set-user-id or set-group-id bit`);
    for (const folder of foldersAbove(path)) await this.#makeFolder(folder);
    if (type === 'directory') await this.#makeFolder(path);
    else await this.#createFile(path, (mode & 0o111) !== 0);
  }

  async append(content: Uint8Array): Promise<void> {
    const file = this.#current;
    if (file === undefined) throw invalid('it holds content that does not belong to a file');
    file.hash.update(content);
    file.size += content.length;
    await file.handle.writeFile(content);
  }

  async finish(): Promise<readonly PackageFile[]> {
    await this.#finishFile();
    if (this.#files.size === 0) throw invalid('it holds no files');
    for (const folder of this.#folders) await sync(join(this.#root, folder));
    await sync(this.#root);
    return [...this.#files.values()];
  }

  async close(): Promise<void> {
    await this.#current?.handle.close();
    this.#current = undefined;
  }

  async #makeFolder(path: string): Promise<void> {
    if (path === '' || this.#folders.has(path)) return;
    this.#claim(path);
    this.#folders.add(path);
    await mkdir(join(this.#root, path), { mode: 0o755 });
  }

  async #createFile(path: string, executable: boolean): Promise<void> {
    if (path === '') throw invalid('a file has no name');
    if (this.#folders.has(path)) throw invalid(`${JSON.stringify(path)} is both a file and a folder`);
    this.#claim(path);
    const handle = await open(join(this.#root, path), 'wx');
    this.#current = { path, executable, handle, hash: createHash('sha256'), size: 0 };
    // Added here and not only when the file is complete, so that a second entry with this name is noticed at once.
    this.#files.set(path, { path, size: 0, sha256: '', executable });
  }

  #claim(path: string): void {
    if (this.#files.has(path)) throw invalid(`${JSON.stringify(path)} is in it twice`);
    if (this.#files.size + this.#folders.size >= this.#maxEntries) throw this.#tooMany();
  }

  #tooMany(): AgentError {
    return new AgentError('ARTIFACT_TOO_LARGE', `it holds more than ${this.#maxEntries} files and folders`);
  }

  async #finishFile(): Promise<void> {
    const file = this.#current;
    if (file === undefined) return;
    const { path, executable, handle, hash, size } = file;
    await handle.chmod(executable ? 0o755 : 0o644);
    await handle.sync();
    await this.close();
    this.#files.set(path, { path, size, sha256: hash.digest('hex'), executable });
  }
}
