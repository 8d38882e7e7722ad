import {
  type Dirent,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { AgentError, messageOf } from '../../../errors.js';
import { check } from '../abi/errno.js';
import { libbpf } from '../abi/ffi.js';

/*
 * bpffs as a file system: directories, pins, additional names. Everything is synchronous: bpffs is in memory, and a
 * call takes a few microseconds.
 */

/** Pins an object under a free name, in a directory that exists. */
export function pin(fd: number, path: string): void {
  check(libbpf().bpf_obj_pin(fd, path), `Cannot pin at ${path}`);
}

/** Pins an object of ours under a name of ours. Removes whatever others have put there. */
export function pinInPlace(fd: number, path: string): void {
  fileOperation(`Cannot clear ${path}`, () => rmSync(path, { recursive: true, force: true }));
  pin(fd, path);
}

/**
 * Makes an empty directory of ours under a name of ours, in one that exists. Removes whatever others have put there.
 */
export function makeInPlace(path: string): void {
  fileOperation(`Cannot make the directory ${path}`, () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  });
}

/** Makes a directory that must not exist yet, and its missing parents below `root`. */
export function makeNewDir(path: string, root: string): void {
  makeParents(path);
  try {
    fileOperation(`Cannot make the directory ${path}`, () => mkdirSync(path));
  } catch (error) {
    removeEmptyParents(path, root);
    throw error;
  }
}

export function makeParents(path: string): void {
  fileOperation(`Cannot make the directory ${dirname(path)}`, () => mkdirSync(dirname(path), { recursive: true }));
}

/**
 * Makes `path` another name of what is pinned at `pinned`. Whoever opens `path` in the meantime finds the old object or
 * the new one.
 */
export function publish(pinned: string, path: string): void {
  makeParents(path);
  fileOperation(`Cannot publish ${pinned} as ${path}`, () => {
    // rename(2) does nothing if both names are the same file already, and would leave the temporary name behind.
    if (inodeOf(path) === lstatSync(pinned).ino) return;
    // A percent sign keeps it apart from the names of maps. One that was left behind by a crash is replaced.
    const temporary = `${path}%new`;
    rmSync(temporary, { force: true });
    linkSync(pinned, temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
}

/** Renames a pin. Atomically replaces whatever had the new name. */
export function move(from: string, to: string, root: string): void {
  if (from === to) return;
  makeParents(to);
  fileOperation(`Cannot move the pin ${from} to ${to}`, () => renameSync(from, to));
  removeEmptyParents(from, root);
}

/** Removes a name, and the directories below `root` that become empty. It is no error if the name does not exist. */
export function unpin(path: string, root: string): void {
  fileOperation(`Cannot unpin ${path}`, () => ignoring(['ENOENT', 'ENOTDIR'], () => unlinkSync(path)));
  removeEmptyParents(path, root);
}

/**
 * Removes a whole directory, and the parents below `root` that become empty. If one entry cannot be removed, the others
 * are removed all the same: the pin that stays may have nothing to do with their objects.
 *
 * @throws AgentError KERNEL for the first entry that could not be removed
 */
export function removeTree(dir: string, root: string): void {
  const failures: unknown[] = [];
  const remove = (operation: () => void): void => {
    try {
      ignoring(['ENOENT', 'ENOTDIR'], operation);
    } catch (error) {
      failures.push(error);
    }
  };
  const removeDir = (path: string): void => {
    for (const entry of entriesOf(path)) {
      const inner = `${path}/${entry.name}`;
      if (entry.isDirectory()) removeDir(inner);
      else remove(() => unlinkSync(inner));
    }
    remove(() => rmdirSync(path));
  };
  // The target of a symbolic link is not ours.
  if (isFolder(dir)) removeDir(dir);
  else remove(() => unlinkSync(dir));
  removeEmptyParents(dir, root);
  fileOperation(`Cannot remove ${dir}`, () => {
    if (failures.length > 0) throw failures[0];
  });
}

/** Removes the empty directories above a path, up to `root`, which stays. */
export function removeEmptyParents(path: string, root: string): void {
  for (let dir = dirname(path); dir.startsWith(`${root}/`); dir = dirname(dir)) {
    const removed = ignoring(['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY', 'ENOTDIR'], () => rmdirSync(dir));
    if (!removed && inodeOf(dir) !== undefined) return;
  }
}

/** Lists directories. */
export interface Folders {
  /** Empty if the directory does not exist. @throws AgentError KERNEL if it cannot be listed */
  entriesOf(dir: string): readonly Dirent[];
}

/** Lists a directory each time. */
export const UNWATCHED_FOLDERS: Folders = { entriesOf };

/**
 * Everything exactly `depth` levels below a directory, as paths relative to it; empty if the directory does not exist.
 */
export function* walk(dir: string, depth: number, folders = UNWATCHED_FOLDERS): Generator<string> {
  for (const { path } of entriesAt(dir, depth, folders)) yield path;
}

/** Like {@link walk}, but directories only. */
export function* foldersBelow(dir: string, depth: number, folders = UNWATCHED_FOLDERS): Generator<string> {
  for (const { path, entry } of entriesAt(dir, depth, folders)) {
    if (entry.isDirectory()) yield path;
  }
}

/**
 * Like {@link walk}, but without directories and symbolic links: a bpffs that others use too may have them anywhere.
 */
export function* pinsBelow(dir: string, depth: number, folders = UNWATCHED_FOLDERS): Generator<string> {
  for (const { path, entry } of entriesAt(dir, depth, folders)) {
    if (entry.isFile()) yield path;
  }
}

/** The paths of all files below a directory, at any depth. */
export function* filesBelow(dir: string): Generator<string> {
  for (const entry of entriesOf(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

function* entriesAt(
  dir: string,
  depth: number,
  folders: Folders,
  base = '',
): Generator<{ path: string; entry: Dirent }> {
  for (const entry of folders.entriesOf(`${dir}${base === '' ? '' : '/'}${base}`)) {
    const path = base === '' ? entry.name : `${base}/${entry.name}`;
    if (depth === 1) yield { path, entry };
    else if (entry.isDirectory()) yield* entriesAt(dir, depth - 1, folders, path);
  }
}

function entriesOf(dir: string): Dirent[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, ['ENOENT', 'ENOTDIR'])) return [];
    throw new AgentError('KERNEL', `Cannot list ${dir}: ${(error as Error).message}`, { cause: error });
  }
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function inodeOf(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

/** @throws AgentError KERNEL for what failed */
export function fileOperation(failed: string, operation: () => void): void {
  try {
    operation();
  } catch (cause) {
    const why = messageOf(cause);
    throw new AgentError('KERNEL', `${failed} (${why})`, { cause, detail: why });
  }
}

/** @returns false if the operation failed with one of these codes */
function ignoring(codes: readonly string[], operation: () => void): boolean {
  try {
    operation();
    return true;
  } catch (error) {
    if (isErrno(error, codes)) return false;
    throw error;
  }
}

function isErrno(error: unknown, codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
